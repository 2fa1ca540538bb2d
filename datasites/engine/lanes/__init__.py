"""Per-record gradients with one record in each lane of the processor's vectors.

One record's forward pass, loss and gradient is recorded, lowered to a small program (`lowering`), checked (`verifier`),
and run by compiled kernels on sixteen records at once (`sums`). No arithmetic moves a number from one lane to another,
every lane runs the same instructions, and the sums over records are of whole numbers. So what a record contributes
depends on that record alone, to the bit, whatever stands beside it and in whatever place.
"""
