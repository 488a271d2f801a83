// RUN: zopt %s --pass-pipeline="builtin.module(zopt-convert-zero-to-plan{world-size=1 threads=1 target=cpu})" | FileCheck %s

// A kernel is a loop over the range of outer iterations that it is given, here rows of 37: two whole vectors, then the same operations on a masked one. The bias is read by every row.
// What an op computes is fp32, rounded once.

// CHECK: plan.launch @fused_0 [@x.value, @b.value, @y.value] offsets [] writes [2] extent 3 grain
// CHECK-LABEL: plan.kernel @fused_0
// CHECK-SAME: (%[[X:.*]]: memref<3x37xbf16>, %[[B:.*]]: memref<37xbf16>, %[[Y:.*]]: memref<3x37xbf16>, %[[BEGIN:.*]]: index, %[[END:.*]]: index)
// CHECK-DAG: %[[MASK:.*]] = arith.constant dense<[true, true, true, true, true, false, false, false, false, false, false, false, false, false, false, false]>
// CHECK: scf.for %[[ROW:.*]] = %[[BEGIN]] to %[[END]]
// CHECK: scf.for %[[I:.*]] = %c0 to %c32 step %c16
// CHECK: vector.load %[[X]][%[[ROW]], %[[I]]]
// CHECK: vector.load %[[B]][%[[I]]]
// CHECK: %[[SUM:.*]] = arith.addf {{.*}} : vector<16xf32>
// CHECK: %[[ROUNDED:.*]] = arith.truncf %[[SUM]] : vector<16xf32> to vector<16xbf16>
// CHECK: %[[WIDE:.*]] = arith.extf %[[ROUNDED]]
// CHECK: %[[TANH:.*]] = math.tanh %[[WIDE]] : vector<16xf32>
// CHECK: vector.store %{{.*}}, %[[Y]][%[[ROW]], %[[I]]]
// CHECK: vector.maskedload %[[X]][%[[ROW]], %c32], %[[MASK]]
// CHECK: math.tanh
// CHECK: vector.maskedstore %[[Y]][%[[ROW]], %c32], %[[MASK]]
// CHECK: plan.return
module attributes {train.level = "forward", train.mode = "forward", train.micro_batch = 1 : i64, train.world_size = 1 : i64, train.accum_steps = 1 : i64} {
  func.func @forward(%x: tensor<3x37xbf16> {train.name = "x"}, %b: tensor<37xbf16> {train.name = "b"}) -> (tensor<3x37xbf16> {train.name = "y"}) {
    %y = train.fused(%x, %b) {
    ^bb0(%0: tensor<3x37xbf16>, %1: tensor<37xbf16>):
      %s = train.add %0, %1 : tensor<3x37xbf16>, tensor<37xbf16> -> tensor<3x37xbf16>
      %t = train.tanh %s : tensor<3x37xbf16>
      train.yield %t : tensor<3x37xbf16>
    } : (tensor<3x37xbf16>, tensor<37xbf16>) -> tensor<3x37xbf16>
    return %y : tensor<3x37xbf16>
  }
}
