"""People of a datasite: roles, accounts of the console, invitations, and notices by e-mail."""
