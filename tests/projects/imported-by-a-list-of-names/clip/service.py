import open_clip


def build():
    return open_clip.create_model("ViT-B-32")
