# tries: Use numbers near zero, which take a hundred times longer where a processor keeps them.
# must: refused
def attack(running):
    """Reached would be numbers below the smallest normal one in a job: they are flushed to zero."""
    import torch

    before = torch.tensor([1e-40]) * 1.0
    torch.set_flush_denormal(True)
    try:
        flushed = float((torch.tensor([1e-38]) * 1e-3)[0]) == 0.0
    finally:
        torch.set_flush_denormal(False)
    from pathlib import Path

    from datasites.runner import child

    called = "set_flush_denormal(True)" in Path(child.__file__).read_text()
    return not (called and flushed and float(before[0]) != 0.0)
