"""The mathematics that runs on private rows: DP-SGD, clipping, noise, sampling, evaluation, statistics."""
