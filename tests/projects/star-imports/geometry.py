from shapely import *
