"""Types that requests and responses carry beyond what pydantic knows: arrays, images, files, frames."""
