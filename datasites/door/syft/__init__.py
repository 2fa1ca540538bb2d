"""All that imports PySyft on the hospital side: its server, the guard before it, and our services in it."""
