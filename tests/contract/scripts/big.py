def main(size: int) -> str:
    return "x" * size
