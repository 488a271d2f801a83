// RUN: zopt %s --pass-pipeline="builtin.module(zopt-emit-kernels{output=%t.ptx})" -o /dev/null
// RUN: FileCheck %s --input-file=%t.ptx
// RUN: FileCheck %s --input-file=%t.ptx --check-prefix=NOT

// An entry a kernel under one header: pointers, floats by value, then the range as 64-bit numbers. Blocks have the threads that the kernel says.
// CHECK-COUNT-1: .version
// CHECK-LABEL: .visible .entry zopt_scale_0(
// CHECK-NEXT: .param .u64 .ptr .global {{.*}}param_0,
// CHECK-NEXT: .param .u64 .ptr .global {{.*}}param_1,
// CHECK-NEXT: .param .f32 {{.*}}param_2,
// CHECK-NEXT: .param .u64 {{.*}}param_3,
// CHECK-NEXT: .param .u64 {{.*}}param_4
// CHECK: .reqntid 64
// An aligned vector of 8 bf16 is one access; a product and a sum are one instruction; so are an exponential of a reduced argument and the logistic function's reciprocal.
// CHECK: ld.global.v4.b32
// CHECK: fma.rn.f32
// CHECK: ex2.approx.ftz.f32
// CHECK: rcp.approx.ftz.f32
// CHECK: cvt.rn.bf16x2.f32
// CHECK: st.global.v4.b32

// An atomic by which a block finds that it is the last is between fences.
// CHECK-LABEL: .visible .entry zopt_last_2(
// CHECK: bar.sync
// CHECK-NEXT: fence.acq_rel.gpu
// CHECK: atom.global.add.u32
// CHECK-NEXT: fence.acq_rel.gpu
// CHECK: st.global.b32

// Threads of a block exchange words, and meet at a barrier around workgroup memory. Counters have no order to keep.
// CHECK-LABEL: .visible .entry zopt_sum_1(
// CHECK: shfl.sync.bfly.b32
// CHECK: st.shared
// CHECK: bar.sync
// CHECK: ld.shared
// CHECK-NOT: fence
// CHECK: {{(atom|red)}}.global.add.u64
// CHECK-NOT: fence

// No library, no array in memory.
// NOT-NOT: __nv_
// NOT-NOT: .local
module {
  plan.target "cuda" {world_size = 1, threads = 1, micro_batch = 1, accum_steps = 1, triple = "nvptx64-nvidia-cuda", cpu = "sm_90", features = "+ptx80", libraries = []}
  plan.kernel @scale_0(%x: memref<64x512xbf16>, %y: memref<64x512xbf16>, %factor: f32, %begin: index, %end: index) attributes {block_threads = 64 : i64, block_iterations = 1 : i64} {
    %c8 = arith.constant 8 : index
    %one = arith.constant dense<1.0> : vector<8xf32>
    %block = gpu.block_id x
    %thread = gpu.thread_id x
    %row = arith.addi %begin, %block : index
    %place = arith.muli %thread, %c8 : index
    %0 = vector.load %x[%row, %place] {alignment = 16 : i64} : memref<64x512xbf16>, vector<8xbf16>
    %1 = arith.extf %0 : vector<8xbf16> to vector<8xf32>
    %2 = vector.broadcast %factor : f32 to vector<8xf32>
    %3 = arith.mulf %1, %2 : vector<8xf32>
    %4 = arith.addf %3, %one : vector<8xf32>
    %5 = math.exp %4 : vector<8xf32>
    %6 = arith.addf %one, %5 : vector<8xf32>
    %7 = arith.divf %one, %6 : vector<8xf32>
    %8 = arith.truncf %7 : vector<8xf32> to vector<8xbf16>
    vector.store %8, %y[%row, %place] {alignment = 16 : i64} : memref<64x512xbf16>, vector<8xbf16>
    plan.return
  }
  plan.kernel @sum_1(%x: memref<4096xf32>, %count: memref<1xi64>, %begin: index, %end: index) attributes {block_threads = 64 : i64, block_iterations = 1 : i64} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c32 = arith.constant 32 : index
    %offset = arith.constant 16 : i32
    %width = arith.constant 32 : i32
    %memory = memref.alloca() : memref<2xf32, 3>
    %thread = gpu.thread_id x
    %0 = memref.load %x[%thread] : memref<4096xf32>
    %1, %valid = gpu.shuffle xor %0, %offset, %width : f32
    %warp = arith.divui %thread, %c32 : index
    memref.store %1, %memory[%warp] : memref<2xf32, 3>
    gpu.barrier
    %other = arith.subi %c1, %warp : index
    %2 = memref.load %memory[%other] : memref<2xf32, 3>
    %3 = arith.fptosi %2 : f32 to i64
    %4 = memref.atomic_rmw addi %3, %count[%c0] : (i64, memref<1xi64>) -> i64
    plan.return
  }
  plan.kernel @last_2(%count: memref<1xi32>, %begin: index, %end: index) attributes {block_threads = 64 : i64, block_iterations = 1 : i64} {
    %c0 = arith.constant 0 : index
    %c0_i32 = arith.constant 0 : i32
    %c1_i32 = arith.constant 1 : i32
    %c7_i32 = arith.constant 7 : i32
    gpu.barrier
    %0 = memref.atomic_rmw addi %c1_i32, %count[%c0] {plan.orders_memory} : (i32, memref<1xi32>) -> i32
    %last = arith.cmpi eq, %0, %c7_i32 : i32
    scf.if %last {
      memref.store %c0_i32, %count[%c0] : memref<1xi32>
    }
    plan.return
  }
}
