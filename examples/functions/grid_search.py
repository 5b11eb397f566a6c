"""Looks for the best parameters of a classifier: one task for each set of them, on data that is stored once.

    python grid_search.py

Needs scikit-learn, here and where the workers run.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import ParameterGrid, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import ripieno

GRID = ParameterGrid({"C": [0.1, 1.0, 10.0], "gamma": [0.001, 0.01, 0.1]})


@ripieno.task(max_retries=1, max_duration=120)
def score(parameters: dict[str, float], images: np.ndarray, digits: np.ndarray) -> float:
    """The mean accuracy over three folds."""
    model = make_pipeline(StandardScaler(), SVC(**parameters))
    return float(cross_val_score(model, images, digits, cv=3).mean())


def main() -> None:
    """Search, and print the best sets of parameters as they are found, and all in the end."""
    images, digits = load_digits(return_X_y=True)
    with ripieno.connect() as cluster:
        # A stored value is sent to a worker once, however many tasks use it.
        stored_images, stored_digits = cluster.put(images), cluster.put(digits)
        asked = {cluster.submit(score, each, stored_images, stored_digits): each for each in GRID}
        best = 0.0
        for future in cluster.as_completed(asked):
            if future.result() > best:
                best = future.result()
                print(f"so far the best: {best:.3f} with {asked[future]}")
        ranking = sorted(((future.result(), parameters) for future, parameters in asked.items()), key=lambda it: -it[0])
    for accuracy, parameters in ranking[:3]:
        print(f"{accuracy:.3f}  {parameters}")


if __name__ == "__main__":
    main()
