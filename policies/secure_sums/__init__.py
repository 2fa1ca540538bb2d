"""Secure aggregation (Bonawitz et al. 2017, active adversaries): one hospital's steps, and how a sum is opened."""
