import pypdf


def text(path):
    return "".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
