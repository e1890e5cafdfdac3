import insightface


def build():
    return insightface.app.FaceAnalysis()
