from . import text
from .image import Classifier as ImageClassifier

Newest = text.Classifier
