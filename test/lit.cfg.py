# lit's view of test/: what is a test, which tools it may call, what this machine offers.
import os
import shutil

import lit.formats

config.name = "zopt"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
# Inputs are no tests; Execution has its own runner. Unit is a nested suite (test/Unit/lit.cfg.py).
config.excludes = ["Inputs", "Models", "Graphs", "Execution"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.zopt_binary_dir, "test")

config.environment["PATH"] = os.pathsep.join([config.zopt_tools_dir, config.llvm_tools_dir, config.environment["PATH"]])
# Open MPI as root (containers) and with more ranks than cores.
config.environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
config.environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
config.environment["OMPI_MCA_rmaps_base_oversubscribe"] = "1"

config.substitutions.append(("%models", os.path.join(config.test_source_root, "Models")))
config.substitutions.append(("%graphs", os.path.join(config.test_source_root, "Graphs")))
config.substitutions.append(("%source", config.zopt_source_dir))
config.substitutions.append(("%build", config.zopt_binary_dir))
config.substitutions.append(("%python", config.python_executable))

if shutil.which("mpirun"):
    config.available_features.add("mpi")
if shutil.which("mlir-tblgen", path=config.llvm_tools_dir):
    config.available_features.add("mlir-tblgen")

# A python that is not instrumented cannot load our library that is.
if config.sanitized:
    config.available_features.add("sanitized")
