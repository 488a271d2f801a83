// RUN: not zopt %s --zopt-recompute=policy=some 2>&1 | FileCheck %s

// CHECK: error: policy is 'some', but expects none, selective or full
module {
}
