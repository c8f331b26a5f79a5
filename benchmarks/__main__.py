"""`make bench`: runs every benchmark and prints its figures."""

from benchmarks import interactive

if __name__ == "__main__":
    interactive.run()
