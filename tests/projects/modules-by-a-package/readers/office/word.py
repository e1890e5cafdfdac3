import docx


def text(path):
    return "\n".join(paragraph.text for paragraph in docx.Document(path).paragraphs)
