// RUN: zopt %s --pass-pipeline="builtin.module(func.func(zopt-fuse-elementwise))" --split-input-file | FileCheck %s

// A chain becomes one kernel; the value in between is not materialized.
// CHECK-LABEL: func.func @chain
// CHECK-SAME: (%[[X:.*]]: tensor<4x8xf32>, %[[B:.*]]: tensor<8xf32>)
// CHECK-NEXT: %[[R:.*]] = train.fused(%[[X]], %[[B]])
// CHECK-NEXT: ^bb0(%[[A0:.*]]: tensor<4x8xf32>, %[[A1:.*]]: tensor<8xf32>):
// CHECK-NEXT: %[[S:.*]] = train.add %[[A0]], %[[A1]]
// CHECK-NEXT: %[[T:.*]] = train.tanh %[[S]]
// CHECK-NEXT: train.yield %[[T]]
// CHECK: return %[[R]]
func.func @chain(%x: tensor<4x8xf32>, %b: tensor<8xf32>) -> tensor<4x8xf32> {
  %s = train.add %x, %b : tensor<4x8xf32>, tensor<8xf32> -> tensor<4x8xf32>
  %t = train.tanh %s : tensor<4x8xf32>
  return %t : tensor<4x8xf32>
}

// -----

// A value that is also used outside is a second result.
// CHECK-LABEL: func.func @two_results
// CHECK: %[[F:.*]]:2 = train.fused
// CHECK: train.yield %{{.*}}, %{{.*}} : tensor<8xf32>, tensor<8xf32>
// CHECK: train.softmax %[[F]]#0
func.func @two_results(%x: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  %a = train.exp %x : tensor<8xf32>
  %b = train.neg %a : tensor<8xf32>
  %c = train.softmax %a : tensor<8xf32>
  return %b, %c : tensor<8xf32>, tensor<8xf32>
}

// -----

// A group of one op and a splat constant needs no buffer for the constant; a constant that is no splat stays an operand.
// CHECK-LABEL: func.func @constants
// CHECK-SAME: (%[[X:.*]]: tensor<3xf32>)
// CHECK-NEXT: %[[C:.*]] = train.constant dense<[
// CHECK-NEXT: train.fused(%[[X]], %[[C]])
// CHECK: train.constant dense<2.000000e+00>
// CHECK-NOT: train.constant
// CHECK: return
func.func @constants(%x: tensor<3xf32>) -> tensor<3xf32> {
  %two = train.constant dense<2.0> : tensor<f32> : tensor<f32>
  %list = train.constant dense<[1.0, 2.0, 3.0]> : tensor<3xf32> : tensor<3xf32>
  %a = train.mul %x, %two : tensor<3xf32>, tensor<f32> -> tensor<3xf32>
  %b = train.add %a, %list : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return %b : tensor<3xf32>
}

// -----

// A cast of the bias joins the group; an expensive producer of a smaller shape does not.
// CHECK-LABEL: func.func @smaller_shapes
// CHECK-SAME: (%[[X:.*]]: tensor<4x8xf32>, %[[B:.*]]: tensor<8xbf16>, %[[E:.*]]: tensor<4x1xf32>)
// CHECK: %[[EXP:.*]] = train.exp %[[E]]
// CHECK: train.fused(%[[B]], %[[X]], %[[EXP]])
// CHECK: train.cast
// CHECK-NOT: train.exp
// CHECK: return
func.func @smaller_shapes(%x: tensor<4x8xf32>, %b: tensor<8xbf16>, %e: tensor<4x1xf32>) -> tensor<4x8xf32> {
  %c = train.cast %b : tensor<8xbf16> -> tensor<8xf32>
  %s = train.add %x, %c : tensor<4x8xf32>, tensor<8xf32> -> tensor<4x8xf32>
  %exp = train.exp %e : tensor<4x1xf32>
  %m = train.mul %s, %exp : tensor<4x8xf32>, tensor<4x1xf32> -> tensor<4x8xf32>
  return %m : tensor<4x8xf32>
}

// -----

// Fusing %a and %c would have to stand both before and after the softmax.
// CHECK-LABEL: func.func @negative_cycle
// CHECK-NOT: train.fused
// CHECK: return
func.func @negative_cycle(%x: tensor<8xf32>) -> tensor<8xf32> {
  %a = train.exp %x : tensor<8xf32>
  %b = train.softmax %a : tensor<8xf32>
  %c = train.add %a, %b : tensor<8xf32>, tensor<8xf32> -> tensor<8xf32>
  return %c : tensor<8xf32>
}

// -----

// The group stands before the first reader of its results, after everything it reads.
// CHECK-LABEL: func.func @place
// CHECK: %[[R:.*]] = train.softmax
// CHECK: %[[F:.*]]:2 = train.fused(%{{.*}}, %[[R]])
// CHECK: train.log_softmax %[[F]]#0
func.func @place(%x: tensor<8xf32>, %y: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  %a = train.exp %x : tensor<8xf32>
  %r = train.softmax %y : tensor<8xf32>
  %l = train.log_softmax %a : tensor<8xf32>
  %b = train.add %a, %r : tensor<8xf32>, tensor<8xf32> -> tensor<8xf32>
  %m = train.mul %b, %l : tensor<8xf32>, tensor<8xf32> -> tensor<8xf32>
  return %b, %m : tensor<8xf32>, tensor<8xf32>
}

// -----

// No group reaches across train.backward; a residual keeps its decision.
// CHECK-LABEL: func.func @backward
// CHECK: %[[F:.*]] = train.fused
// CHECK: train.exp
// CHECK: train.neg
// CHECK: {zero.residual = "keep"}
// CHECK: train.backward
// CHECK: train.mul %[[F]]
func.func @backward(%x: tensor<8xf32>, %loss: tensor<f32>, %seed: tensor<f32>) -> tensor<8xf32> {
  %a = train.exp %x : tensor<8xf32>
  %b = train.neg %a {zero.residual = "keep"} : tensor<8xf32>
  train.backward %loss seed %seed : tensor<f32>
  %c = train.mul %b, %x : tensor<8xf32>, tensor<8xf32> -> tensor<8xf32>
  return %c : tensor<8xf32>
}

// -----

// A comparison of positions is computed inside: no operand, no buffer.
// CHECK-LABEL: func.func @iota
// CHECK-SAME: (%[[X:.*]]: tensor<8x8xf32>)
// CHECK-NEXT: train.fused(%[[X]])
// CHECK: train.iota 0
// CHECK: train.iota 0
// CHECK: train.compare
// CHECK: train.select
func.func @iota(%x: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %row = train.iota 0 : tensor<8x1xi64>
  %column = train.iota 0 : tensor<8xi64>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %sees = train.compare le %column, %row : tensor<8xi64>, tensor<8x1xi64> -> tensor<8x8xi1>
  %r = train.select %sees, %x, %zero : tensor<8x8xi1>, tensor<8x8xf32>, tensor<f32> -> tensor<8x8xf32>
  return %r : tensor<8x8xf32>
}

// -----

// Siblings: two groups that read %x become one kernel with two results, which stands before the first reader of one.
// CHECK-LABEL: func.func @siblings
// CHECK-SAME: (%[[A:.*]]: tensor<8xf32>)
// CHECK: %[[X:.*]] = train.softmax %[[A]]
// CHECK-NEXT: %[[F:.*]]:2 = train.fused(%[[X]])
// CHECK: train.mul
// CHECK: train.exp
// CHECK: train.softmax %[[F]]#0
// CHECK: return %{{.*}}, %[[F]]#1
func.func @siblings(%a: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  %x = train.softmax %a : tensor<8xf32>
  %m = train.mul %x, %x : tensor<8xf32>, tensor<8xf32> -> tensor<8xf32>
  %s = train.softmax %m : tensor<8xf32>
  %e = train.exp %x : tensor<8xf32>
  return %s, %e : tensor<8xf32>, tensor<8xf32>
}

// -----

// Earlier, %e would be one more live value while the softmax runs: %x is read behind it too.
// CHECK-LABEL: func.func @siblings_that_live_longer
// CHECK-NOT: train.fused
// CHECK: return
func.func @siblings_that_live_longer(%a: tensor<8192xf32>) -> (tensor<8192xf32>, tensor<8192xf32>, tensor<8192xf32>) {
  %x = train.softmax %a : tensor<8192xf32>
  %m = train.mul %x, %x : tensor<8192xf32>, tensor<8192xf32> -> tensor<8192xf32>
  %s = train.softmax %m : tensor<8192xf32>
  %e = train.exp %x : tensor<8192xf32>
  %l = train.log_softmax %x : tensor<8192xf32>
  return %s, %e, %l : tensor<8192xf32>, tensor<8192xf32>, tensor<8192xf32>
}

// -----

// Small ones go together all the same, and even where they have nothing in common.
// CHECK-LABEL: func.func @small
// CHECK: train.fused(%arg0, %arg1)
// CHECK: train.exp
// CHECK: train.mul
// CHECK-NOT: train.fused
// CHECK: return
func.func @small(%a: tensor<8xf32>, %b: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  %e = train.exp %a : tensor<8xf32>
  %m = train.mul %b, %b : tensor<8xf32>, tensor<8xf32> -> tensor<8xf32>
  return %e, %m : tensor<8xf32>, tensor<8xf32>
}

// -----

// One depends on the other through the softmax.
// CHECK-LABEL: func.func @siblings_in_a_row
// CHECK-NOT: train.fused
// CHECK: return
func.func @siblings_in_a_row(%x: tensor<8xf32>) -> tensor<8xf32> {
  %m = train.exp %x : tensor<8xf32>
  %s = train.softmax %m : tensor<8xf32>
  %e = train.mul %s, %x : tensor<8xf32>, tensor<8xf32> -> tensor<8xf32>
  return %e : tensor<8xf32>
}

// -----

// Behind train.backward a sum that is added up as it comes is not put off to its last term; additions side by side are
// one kernel.
// CHECK-LABEL: func.func @sums
// CHECK: train.backward
// CHECK-NEXT: %[[A:.*]] = train.matmul
// CHECK-NEXT: %[[B:.*]] = train.matmul
// CHECK-NEXT: %[[AB:.*]] = train.add %[[A]], %[[B]]
// CHECK-NEXT: %[[C:.*]] = train.matmul
// CHECK-NEXT: train.fused(%[[AB]], %[[C]], %{{.*}})
// CHECK: train.add
// CHECK-NEXT: train.add
// CHECK-NOT: train.add
// CHECK: return
func.func @sums(%x: tensor<128x128xf32>, %y: tensor<128x128xf32>, %loss: tensor<f32>) -> tensor<128x128xf32> {
  train.backward %loss seed %loss : tensor<f32>
  %a = train.matmul %x, %x : tensor<128x128xf32>, tensor<128x128xf32> -> tensor<128x128xf32>
  %b = train.matmul %x, %y : tensor<128x128xf32>, tensor<128x128xf32> -> tensor<128x128xf32>
  %ab = train.add %a, %b : tensor<128x128xf32>, tensor<128x128xf32> -> tensor<128x128xf32>
  %c = train.matmul %y, %x : tensor<128x128xf32>, tensor<128x128xf32> -> tensor<128x128xf32>
  %abc = train.add %ab, %c : tensor<128x128xf32>, tensor<128x128xf32> -> tensor<128x128xf32>
  %abcx = train.add %abc, %x : tensor<128x128xf32>, tensor<128x128xf32> -> tensor<128x128xf32>
  return %abcx : tensor<128x128xf32>
}
