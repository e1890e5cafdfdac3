import openpyxl


def text(path):
    return "\n".join(str(cell.value) for row in openpyxl.load_workbook(path).active for cell in row)
