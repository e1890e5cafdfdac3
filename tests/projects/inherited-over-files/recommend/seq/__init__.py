from recommend.params import MODEL

MODEL_NAME = MODEL
