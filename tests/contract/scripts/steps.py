from remoterun import script


def main() -> str:
    for done in range(4):
        script.progress(done, 3, f"step {done}")
    return "reported"
