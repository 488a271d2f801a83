/*===- keep_loaded.c - a preloaded library that unloads nothing -----*- C -*-===*\
|* Part of zopt, under the Apache License v2.0 with LLVM Exceptions.            *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                      *|
\*===------------------------------------------------------------------------===*/

/* Open MPI unloads its plug-ins before a process ends, and leaks of theirs could not be told from ours any more: leaks.txt names libraries. */
int dlclose(void *handle) {
  (void)handle;
  return 0;
}
