import cv2
import numpy as np


def edges(image):
    return cv2.Canny(image, 100, 200)


def inverted(image):
    return np.invert(image)
