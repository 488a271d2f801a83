"""Gradients of a reference in a few numbers: what tensors of hundreds of kilobytes tell about the distance to another one.

A sketch of a tensor g is its norm and its products with 32 vectors r of random signs. For any other tensor h, (r·h - r·g)^2 has the mean |h - g|^2 over r, so the root of the mean over 32 vectors tells
|h - g| within about one eighth (Johnson and Lindenstrauss; signs: Achlioptas, "Database-friendly random projections", 2003), and a single wrong element of h shows in all of them.

    test/Execution/sketches.py grads0.safetensors > grads0.json      # how the sketches of test/Models were made
"""
import dataclasses
import json
import sys
import zlib

import numpy as np

import tensors

VECTORS = 32


@dataclasses.dataclass
class Sketch:
    name: str
    shape: tuple
    norm: float
    products: np.ndarray  # with each vector of signs

    def distance(self, array):
        """An estimate of |array - this tensor|."""
        assert array.shape == self.shape, f"'{self.name}' has shape {array.shape}, the reference {self.shape}"
        return float(np.sqrt(np.mean(np.square(products(self.name, array) - self.products))))


def products(name, array):
    """The tensor's name seeds the signs, so that equal tensors under two names have sketches of their own. numpy keeps PCG64's stream for good."""
    values = np.asarray(array, np.float64).ravel()
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(values.size)  # one 64-bit word an element, one bit a vector
    return np.array([np.sum(np.where((bits >> np.uint64(vector)) & np.uint64(1), values, -values)) for vector in range(VECTORS)])


def load(path):
    with open(path, encoding="utf-8") as file:
        return {name: Sketch(name, tuple(entry["shape"]), entry["norm"], np.array(entry["products"])) for name, entry in json.load(file).items()}


def write(path, file):
    rows = []
    for name, array in sorted(tensors.load(path).items()):
        entry = {"shape": list(array.shape), "norm": float(np.linalg.norm(array.astype(np.float64).ravel())), "products": [float(f"{p:.12g}") for p in products(name, array)]}
        rows.append(f" {json.dumps(name)}: {json.dumps(entry)}")
    file.write("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    write(sys.argv[1], sys.stdout)
