"""Methods: each file is one way to make a synthetic set; ``conf/method`` holds their recipes."""
