"""`make bench`: runs every benchmark and prints its figures."""

from benchmarks import batch, interactive

if __name__ == "__main__":
    interactive.run()
    batch.run()
