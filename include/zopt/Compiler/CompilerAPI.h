/*===- CompilerAPI.h - the compiler as a library, for zrun's launcher -*- C -*-===*\
|*                                                                            *|
|* Part of zopt, under the Apache License v2.0 with LLVM Exceptions.          *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
|*===----------------------------------------------------------------------===*|
|*                                                                            *|
|* libZoptCompiler.so is loaded only by the process that compiles; ranks read *|
|* what it leaves in the cache.                                               *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#ifndef ZOPT_COMPILER_COMPILERAPI_H
#define ZOPT_COMPILER_COMPILERAPI_H

#ifdef __cplusplus
extern "C" {
#endif

/* Makes the Program of a plan for a world and leaves it, with its shared object, in `cacheDirectory` (created if absent), named by content: the second call for the same plan, options and
 * machine finds it there.
 *
 * planPath: a portable plan, which is specialized, or a final plan, which is checked against the world and the machine.
 * optionsJson: {"world_size": N, "threads": N (0: choose), "target": "cpu" or "cuda", "chip": "sm_90" (of the GPUs here; absent: not known), "save_plan": "FILE" (absent: none),
 * "algorithms": [N, ...] (of the library's candidates, one for each plan.matmul in the plan's order; absent: those of the plan), "tuned_for": ["cublasLt 13.1.0", "GPU"] (beside algorithms)}.
 *
 * Returns 0 and sets *programPath; or an exit code (1: the plan is wrong or not for this run, 3: a tool or file failed) and sets *error to one line a problem. Both strings are malloc'ed and the
 * caller frees them. Thread-safe. */
int zoptCompile(const char *planPath, const char *optionsJson, const char *cacheDirectory, char **programPath, char **error);

#ifdef __cplusplus
}
#endif

#endif
