"""`make bench`: runs every benchmark and prints its figures."""

from benchmarks import batch, interactive, labels

if __name__ == "__main__":
    interactive.run()
    labels.run()
    batch.run()
