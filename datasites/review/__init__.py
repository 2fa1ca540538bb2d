"""From a source to a plan, its price, the owner's decision, and the rounds that run under an approval."""
