from .decode import Decoder as Decoder
from .prefill import Prefiller as Prefiller
from .proxy import proxy as proxy
