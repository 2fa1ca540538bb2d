"""Sources of the compiled kernels, which `python -m datasites.engine.lanes` compiles and no job imports."""
