"""The hospital side: publishing, review, the guarded syft datasite, and the runner that alone reads private rows."""
