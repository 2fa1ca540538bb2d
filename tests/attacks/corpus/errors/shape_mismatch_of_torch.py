# tries: Multiply matrices that do not fit, so that the error names the row count.
# must: inspection return
# sign: Exception encountered
def attack(records, weights, round):
    try:
        return {"w": records @ records[:5]}
    except RuntimeError as error:
        raise ValueError(DONE if "413" in str(error) else "no") from None
