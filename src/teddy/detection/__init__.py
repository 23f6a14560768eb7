"""Object detection as a task beside classification (Sec. C.3; Table 4, right): ``evaluation=detection``."""
