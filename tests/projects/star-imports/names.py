import numpy as np
import pandas as pd


def mean(numbers):
    return np.mean(numbers)


def table(numbers):
    return pd.DataFrame(numbers)
