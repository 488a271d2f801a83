"""compile.py LIBRARY PLAN OPTIONS CACHE: calls the compiler as zrun does, and prints its code and the name of the Program or the error."""
import ctypes
import json
import sys

library, plan, options, cache = sys.argv[1:]
program, error = ctypes.c_char_p(), ctypes.c_char_p()
code = ctypes.CDLL(library).zoptCompile(plan.encode(), json.dumps(json.loads(options)).encode(), cache.encode(), ctypes.byref(program), ctypes.byref(error))
print(code, program.value.decode().rsplit("/", 1)[1] if code == 0 else error.value.decode())
