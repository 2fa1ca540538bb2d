"""All that imports PySyft on the hospital side: its server, the guard before it, and our services in it.

PySyft comes without what notebooks, clusters and clouds need of it: nothing that a datasite serves reaches them.
"""

from policies.deferred_imports import import_without

WITHOUT = ("IPython", "azure", "boto3", "botocore", "docker", "ipywidgets", "itables", "kr8s", "zmq")

import_without("syft", WITHOUT, given={"IPython.get_ipython": lambda: None})
