import sentencepiece


def load():
    return sentencepiece.SentencePieceProcessor()
