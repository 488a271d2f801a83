// RUN: zopt %s --zopt-verify-forward --zopt-add-loss --zopt-autodiff --zopt-add-optimizer --zopt-verify-step -o %t.step.mlir
// RUN: not zopt %s --zopt-verify-step 2>&1 | FileCheck %s --check-prefix=EARLY
// RUN: not zopt %t.step.mlir --zopt-verify-forward 2>&1 | FileCheck %s --check-prefix=LATE
// RUN: zopt %s --zopt-verify-forward | FileCheck %s

// A module passes the gate of its own level, unchanged, and no other.
// EARLY-DAG: error: module is not at the step level: train.level is 'forward'
// EARLY-DAG: error: module has no @micro_step
// EARLY-DAG: error: module has no @apply_step
// LATE-DAG: error: module is not at the forward level: train.level is 'step'
// LATE-DAG: error: module has no @forward

// CHECK: module attributes {train.level = "forward"} {
// CHECK-NEXT: train.state @w : tensor<10x8xf32> {role = #train.role<parameter>, trained}
// CHECK-NEXT: func.func @forward(%arg0: tensor<4x8xf32> {train.name = "x"}) -> (tensor<4x10xf32> {train.name = "logits"}) {
// CHECK-NEXT: %0 = train.read_state @w : tensor<10x8xf32>
// CHECK-NEXT: %1 = train.matmul %arg0, %0 {transpose_rhs} : tensor<4x8xf32>, tensor<10x8xf32> -> tensor<4x10xf32>
// CHECK-NEXT: return %1
module attributes {train.level = "forward"} {
  train.state @w : tensor<10x8xf32> {role = #train.role<parameter>, trained}
  func.func @forward(%x: tensor<4x8xf32> {train.name = "x"}) -> (tensor<4x10xf32> {train.name = "logits"}) {
    %w = train.read_state @w : tensor<10x8xf32>
    %y = train.matmul %x, %w {transpose_rhs} : tensor<4x8xf32>, tensor<10x8xf32> -> tensor<4x10xf32>
    return %y : tensor<4x10xf32>
  }
}
