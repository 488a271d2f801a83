// RUN: zopt %s --pass-pipeline='builtin.module(zopt-record-settings{compiled="lr=0.1;precision=bf16" run="a=b%41c"})' | FileCheck %s
// RUN: zopt %s --zopt-record-settings | FileCheck %s --check-prefix=NOTHING
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-record-settings{run="a=1;a=2"})' 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-record-settings{compiled="a=%2"})' 2>&1 | FileCheck %s --check-prefix=BROKEN
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-record-settings{compiled="=1"})' 2>&1 | FileCheck %s --check-prefix=NAMELESS

// Both lists become dictionaries of texts; an empty one leaves nothing.
// CHECK: module attributes {train.compiled = {lr = "0.1", precision = "bf16"}, train.run = {a = "bAc"}}
// NOTHING: module {

// Lists that are none.
// TWICE: zopt-record-settings: run has 'a' twice
// BROKEN: zopt-record-settings: compiled is a list of flag=value, but has 'a=%2'
// NAMELESS: zopt-record-settings: compiled is a list of flag=value, but has '=1'
module {
}
