# GoogleTest programs as lit tests: every case of every program in test/Unit/bin whose name ends in "Tests".
import os

import lit.formats

config.name = "zopt-unit"
config.suffixes = []
config.test_source_root = os.path.join(config.zopt_binary_dir, "test", "Unit")
config.test_exec_root = config.test_source_root
config.test_format = lit.formats.GoogleTest("bin", "Tests")
