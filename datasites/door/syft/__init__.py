"""All that imports PySyft on the hospital side: its server, the guard before it, and our services in it.

PySyft comes without what notebooks, clusters and clouds need of it: nothing that a datasite serves reaches them. And it
comes without torch, which is half of its memory, and native code that would parse beside the keys: PySyft gets by where
torch is not installed, and `tensors` sends and reads what it would have.
"""

from policies.deferred_imports import import_without

WITHOUT = ("IPython", "pandas", "azure", "boto3", "botocore", "docker", "ipywidgets", "itables", "kr8s", "zmq")

import_without("syft", WITHOUT, given={"IPython.get_ipython": lambda: None}, missing=("torch",))
