import cv2
import numpy as np
import torch
from PIL import Image


def as_array(image):
    return np.asarray(image)


def resized(image):
    return cv2.resize(as_array(image), (64, 64))


def as_tensor(image):
    return torch.from_numpy(as_array(image))


def opened(path):
    return Image.open(path)
