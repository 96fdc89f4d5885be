/* SPDX-License-Identifier: Apache-2.0
 *
 * moorage.h - the C ABI of Moorage, a zero-copy tensor store.
 *
 * A store keeps immutable objects under keys, in memory that never moves. An object is bytes; a tensor adds a dtype
 * and a shape. What a getter returns is a *view*: a counted borrow of the object's bytes. A view has no deadline. Its
 * bytes stay where and as they are until the view is released, whatever happens to the name meanwhile: replace,
 * remove, eviction, moor_store_close, a fork.
 *
 * Conventions, all without exception
 *   Names       moor_<object>_<verb> for what has a handle, moor_<verb>_<noun> for operations on a store.
 *   Status      Every function that can fail returns int32_t: 0 is success, a negative number is one of MOOR_ERR_*.
 *               Positive numbers are reserved for "in progress". A status number is never given a second meaning.
 *               moor_last_error() has the text for the calling thread.
 *   Outputs     Out parameters come last, end in _out and are written only on success, unless it says otherwise.
 *   Refusal     A call that returns an error has changed nothing.
 *   Inputs      Borrowed for the duration of the call. Nothing that is passed in is kept, but for moor_progress
 *               during an import or export, and the memory that is lent to a job.
 *   Handles     64-bit ids in structs of their own, never reused. A stale, closed, foreign or zero handle gives
 *               MOOR_ERR_BAD_HANDLE.
 *   Structs     Option, result and information structs begin with struct_size, which the caller sets to
 *               sizeof(the struct). All other fields at zero mean the default. A NULL pointer to an options
 *               struct means all defaults.
 *   Sizes       uint64_t, in bytes, unless it says otherwise.
 *   Keys        1 to MOOR_MAX_KEY bytes of any value; not terminated. (The Python package uses UTF-8 text.)
 *   Threads     Every function may be called from any thread at any time. Release callbacks too, and they take no
 *               lock, call no Go and are safe while the process exits.
 *   Fork        In a forked child every function that returns a status answers MOOR_ERR_FORKED at once, except those
 *               that take a moor_snapshot. Views taken before the fork stay readable and may be released.
 *   Since       Everything here exists since ABI level 1.
 */
#ifndef MOORAGE_H_
#define MOORAGE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------------------------
 * DLPack, version 1.1, the structures by which tensors cross. They stand under the include guard of dlpack.h, so a
 * program may include that header too, before or after this one.
 * https://dmlc.github.io/dlpack/latest/c_api.html
 */
#ifndef DLPACK_DLPACK_H_
#define DLPACK_DLPACK_H_

#ifdef __cplusplus
#define DLPACK_EXTERN_C extern "C"
#else
#define DLPACK_EXTERN_C
#endif
#define DLPACK_DLL

#define DLPACK_MAJOR_VERSION 1
#define DLPACK_MINOR_VERSION 1

#define DLPACK_FLAG_BITMASK_READ_ONLY (1UL << 0UL)
#define DLPACK_FLAG_BITMASK_IS_COPIED (1UL << 1UL)
#define DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED (1UL << 2UL)

typedef struct {
  uint32_t major;
  uint32_t minor;
} DLPackVersion;

#ifdef __cplusplus
typedef enum : int32_t {
#else
typedef enum {
#endif
  kDLCPU = 1,
  kDLCUDA = 2,
  kDLCUDAHost = 3,
  kDLOpenCL = 4,
  kDLVulkan = 7,
  kDLMetal = 8,
  kDLVPI = 9,
  kDLROCM = 10,
  kDLROCMHost = 11,
  kDLExtDev = 12,
  kDLCUDAManaged = 13,
  kDLOneAPI = 14,
  kDLWebGPU = 15,
  kDLHexagon = 16,
  kDLMAIA = 17
} DLDeviceType;

typedef struct {
  DLDeviceType device_type;
  int32_t device_id;
} DLDevice;

typedef enum {
  kDLInt = 0U,
  kDLUInt = 1U,
  kDLFloat = 2U,
  kDLOpaqueHandle = 3U,
  kDLBfloat = 4U,
  kDLComplex = 5U,
  kDLBool = 6U,
  kDLFloat8_e3m4 = 7U,
  kDLFloat8_e4m3 = 8U,
  kDLFloat8_e4m3b11fnuz = 9U,
  kDLFloat8_e4m3fn = 10U,
  kDLFloat8_e4m3fnuz = 11U,
  kDLFloat8_e5m2 = 12U,
  kDLFloat8_e5m2fnuz = 13U,
  kDLFloat8_e8m0fnu = 14U,
  kDLFloat6_e2m3fn = 15U,
  kDLFloat6_e3m2fn = 16U,
  kDLFloat4_e2m1fn = 17U
} DLDataTypeCode;

typedef struct {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
} DLDataType;

typedef struct {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape;
  int64_t *strides; /* in elements; NULL = dense, row-major */
  uint64_t byte_offset;
} DLTensor;

typedef struct DLManagedTensor {
  DLTensor dl_tensor;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

typedef struct DLManagedTensorVersioned {
  DLPackVersion version;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensorVersioned *self);
  uint64_t flags;
  DLTensor dl_tensor;
} DLManagedTensorVersioned;

#endif /* DLPACK_DLPACK_H_ */

/* ---------------------------------------------------------------------------------------------------------------
 * Limits and version
 */
#define MOOR_ABI_LEVEL 1
#define MOOR_MAX_KEY 4096  /* bytes of a key */
#define MOOR_MAX_META 4096 /* bytes of user metadata */
#define MOOR_MAX_DIMS 64   /* dimensions of a tensor */
#define MOOR_ALL UINT64_MAX /* "as many bytes as there are" */

/* "1.2.3", static. */
const char *moor_version(void);
/* The ABI level of the library, which is at least MOOR_ABI_LEVEL of the header it was built with. */
int32_t moor_abi_level(void);

/* ---------------------------------------------------------------------------------------------------------------
 * Status
 */
#define MOOR_OK 0
#define MOOR_IN_PROGRESS 1             /* of a key of a job: it has no result yet */
#define MOOR_ERR_INVALID_ARGUMENT (-1) /* an argument is wrong; the text names it */
#define MOOR_ERR_BAD_HANDLE (-2)       /* zero, closed, stale or of another kind */
#define MOOR_ERR_FORKED (-3)           /* called in a forked child */
#define MOOR_ERR_NOT_FOUND (-4)        /* no object under this key */
#define MOOR_ERR_EXISTS (-5)           /* the key is taken and if_exists is MOOR_IF_EXISTS_RAISE */
#define MOOR_ERR_CAPACITY (-6)         /* the store is full: free, borrowed and pinned bytes are in the text */
#define MOOR_ERR_NO_MEMORY (-7)        /* the system gives no more memory, or a memory limit is near */
#define MOOR_ERR_BUSY (-8)             /* viewed, or held by a forked child: cannot be taken; too many keys of jobs */
                                       /* are unfinished */
#define MOOR_ERR_TOO_SMALL (-9)        /* a destination is too small; nothing was written */
#define MOOR_ERR_READ_ONLY (-10)       /* a destination lies in the read-only memory of a store */
#define MOOR_ERR_UNSUPPORTED (-11)     /* a dtype, device or layout that a store does not hold */
#define MOOR_ERR_HUGE_PAGES (-12)      /* hugepages=require and the system has too few */
#define MOOR_ERR_ALREADY_ADOPTED (-13) /* this reservation has been committed before */
#define MOOR_ERR_CANCELLED (-14)       /* the store was closed, or progress said stop, during a long call; of a key of */
                                       /* a job: before it was begun */
#define MOOR_ERR_IO (-15)              /* a file could not be read or written */
#define MOOR_ERR_FORMAT (-16)          /* a file is damaged or hostile */
#define MOOR_ERR_SYSTEM (-17)          /* a system call failed; the text names it */
#define MOOR_ERR_INTERNAL (-18)        /* a bug in Moorage; the text has what is known */
#define MOOR_ERR_TIMEOUT (-19)         /* what was waited for did not come in time */
#define MOOR_ERR_NO_DEVICE (-20)       /* there is no such network device, or it cannot be used; the text says why */

/* "MOOR_ERR_CAPACITY" for -6, and so on; "MOOR_ERR_UNKNOWN" for a number that is none. Static. */
const char *moor_status_name(int32_t status);
/* The text of the last error of the calling thread, never NULL, at most 1 KiB, valid until the next call that fails
 * on this thread. Not cleared by success. */
const char *moor_last_error(void);

/* ---------------------------------------------------------------------------------------------------------------
 * Opening and closing
 */
typedef struct moor_store {
  uint64_t id;
} moor_store;

/* eviction */
#define MOOR_EVICT_NONE 0   /* a full store answers MOOR_ERR_CAPACITY */
#define MOOR_EVICT_S3FIFO 1 /* a full store drops objects that are neither viewed nor pinned */
/* hugepages */
#define MOOR_HUGE_AUTO 0    /* memory made ready ahead of its use is gathered into huge pages where the kernel does so */
#define MOOR_HUGE_TRY 1     /* those of the administrator's pool when there are enough; moor_stats says what was got */
#define MOOR_HUGE_REQUIRE 2 /* MOOR_ERR_HUGE_PAGES otherwise */
#define MOOR_HUGE_OFF 3     /* ordinary pages */
/* prefault */
#define MOOR_PREFAULT_NONE 0
#define MOOR_PREFAULT_BACKGROUND 1 /* touch all memory in the background */
#define MOOR_PREFAULT_OPEN 2       /* touch all memory before open returns */
/* registering: what transfers do with memory of the caller's that is not registered */
#define MOOR_REGISTERING_AUTO 0    /* copy it through memory that is, or register it for the one transfer: by measured cost */
#define MOOR_REGISTERING_NEVER 1   /* always copy it through memory that is */
#define MOOR_REGISTERING_ALWAYS 2  /* always register it for the one transfer */
#define MOOR_REGISTERING_REQUIRE 3 /* neither: it is an error */

/* When what is written to disk is safe from a loss of power. moor_persist and moor_flush always wait for that. */
#define MOOR_DURABLE_NONE 1  /* when the kernel sees to it; a crash of the process alone loses nothing */
#define MOOR_DURABLE_BATCH 2 /* soon: several objects are synchronized together, after they were reported */
#define MOOR_DURABLE_EACH 3  /* before it is reported */

#define MOOR_VERIFY_ALWAYS 0  /* checksums are compared with each read */
#define MOOR_VERIFY_SAMPLED 1 /* with one read in sixteen */
#define MOOR_VERIFY_OFF 2

/* When an object that was read from disk stays in memory under its name. */
#define MOOR_PROMOTE_ALWAYS 0
#define MOOR_PROMOTE_SECOND_HIT 1 /* with the second read */
#define MOOR_PROMOTE_NEVER 2

#define MOOR_READ_DIRECT 0   /* past the page cache where the directory can, straight to where the bytes belong */
#define MOOR_READ_BUFFERED 1 /* through the page cache: reads and writes are copied once more */
#define MOOR_READ_MMAP 2     /* through mapped files, to compare: page faults count as device, and each byte is copied */

#define MOOR_WRITE_BACK 0    /* an object goes to disk when memory is needed, or when it is asked for */
#define MOOR_WRITE_THROUGH 1 /* a put returns when its object is on disk as well */

/* A directory for what memory has no room for, which one store owns at a time. It is made if it is not there; what is
 * persistent in it is found again. */
typedef struct moor_disk_options {
  uint32_t struct_size;
  uint32_t durability; /* 0 = MOOR_DURABLE_BATCH */
  const char *path;  /* the directory, a C string */
  uint64_t capacity; /* bytes of it that may be used; 0 = 90 % of what is free, and of what is there already */
  uint32_t verify;
  uint32_t promote;
  uint32_t write;
  uint32_t read_path;
  const char *trace; /* a file for a line of JSON per operation, which it is appended to; NULL: none */
} moor_disk_options;

typedef struct moor_store_options {
  uint32_t struct_size;
  uint32_t eviction;
  uint64_t capacity; /* bytes of tensor memory; 0 = a quarter of the memory this process may use */
  uint32_t hugepages;
  uint32_t prefault;
  const moor_disk_options *disk; /* NULL: memory alone */
  uint32_t registering;
  uint32_t reserved;
} moor_store_options;

/* Opens a store. Reserves address space for the whole capacity; memory is used when it is first written.
 * With a disk, memory that is full makes room by writing objects there, nothing is lost; a full disk refuses
 * (MOOR_EVICT_NONE) or drops what was not used for long (MOOR_EVICT_S3FIFO). Calls may then wait for the disk.
 * Errors: INVALID_ARGUMENT, NO_MEMORY, HUGE_PAGES, SYSTEM, FORKED; with a disk IO, FORMAT (not a directory of ours, of a
 * newer format, or damaged), BUSY (another store owns it). */
int32_t moor_store_open(const moor_store_options *options, moor_store *store_out);

#define MOOR_CLOSE_WAIT 1u /* also wait until all objects are taken down */

/* Closes a store. Calls in flight end first, long copies are cancelled with MOOR_ERR_CANCELLED. Views stay valid;
 * the memory is unmapped when the last of them is released. Closing twice is MOOR_ERR_BAD_HANDLE, closing from a
 * progress callback MOOR_ERR_BUSY. */
int32_t moor_store_close(moor_store store, uint32_t flags);

/* ---------------------------------------------------------------------------------------------------------------
 * Putting: one copy in
 */
#define MOOR_IF_EXISTS_REPLACE 0 /* as in a dict; views of the old object stay */
#define MOOR_IF_EXISTS_KEEP 1    /* keep the old object, outcome MOOR_KEPT */
#define MOOR_IF_EXISTS_RAISE 2   /* MOOR_ERR_EXISTS */

/* flags of moor_put_options */
#define MOOR_PUT_AS_BYTES 1u   /* moor_put_tensor: store the gathered bytes without dtype and shape */
#define MOOR_PUT_NO_PROTECT 2u /* moor_commit: leave the pages writable; the caller promises to write no more */
#define MOOR_PUT_ATOMIC 4u     /* moor_put_batch, moor_put_tensors: all or nothing, and all at one moment */

typedef struct moor_put_options {
  uint32_t struct_size;
  uint32_t if_exists;
  const void *meta; /* user metadata, copied */
  uint64_t meta_size;
  uint32_t flags;
  uint32_t reserved;
} moor_put_options;

#define MOOR_STORED 0
#define MOOR_KEPT 1    /* the key was taken and if_exists was KEEP: nothing was stored */
#define MOOR_ADOPTED 2 /* stored without a copy: the reservation's extent became the object */

typedef struct moor_put_result {
  uint64_t seq; /* sequence number of the commit, store-wide, rising; of the object that is there if KEPT */
  uint32_t outcome;
  uint32_t reserved;
} moor_put_result;

typedef struct moor_part {
  const void *data;
  uint64_t size;
} moor_part;

/* Stores size bytes under key. Errors of every put: INVALID_ARGUMENT, BAD_HANDLE, EXISTS, CAPACITY, NO_MEMORY,
 * CANCELLED, FORKED; with MOOR_WRITE_THROUGH also IO, and then the object is in memory. options and result_out may be
 * NULL. */
int32_t moor_put(moor_store store, const void *key, uint64_t key_size, const void *data, uint64_t size,
                 const moor_put_options *options, moor_put_result *result_out);
/* Stores the concatenation of the parts. */
int32_t moor_put_parts(moor_store store, const void *key, uint64_t key_size, const moor_part *parts,
                       uint64_t part_count, const moor_put_options *options, moor_put_result *result_out);
/* Stores a tensor in CPU memory, of any strides (zero and negative too), dense and row-major. UNSUPPORTED: another
 * device or a dtype that a store does not hold. */
int32_t moor_put_tensor(moor_store store, const void *key, uint64_t key_size, const DLTensor *tensor,
                        const moor_put_options *options, moor_put_result *result_out);

/* ---------------------------------------------------------------------------------------------------------------
 * Producing in place
 *
 * A reservation is memory of the store that has no name yet. It is writable, owns whole pages and belongs to its
 * producer until it is committed or aborted. It counts as a view: closing the store leaves it valid.
 */
typedef struct moor_reservation {
  uint64_t id;
} moor_reservation;

/* Reserves size bytes, aligned to a page. */
int32_t moor_reserve(moor_store store, uint64_t size, moor_reservation *reservation_out, void **data_out);
/* Publishes the reservation under key and ends it. tensor gives dtype and shape (its data and strides are ignored), of
 * as many bytes as were reserved or fewer, which are taken from the start; NULL means plain bytes of the whole size.
 * Unless MOOR_PUT_NO_PROTECT is set, the pages become read-only for everybody first: a late write by the producer then
 * ends the process instead of changing the object. NO_MEMORY when so many are read-only already that the process comes
 * near its limit of mappings: moor_put copies. KEPT and every error leave the reservation open. */
int32_t moor_commit(moor_reservation reservation, const void *key, uint64_t key_size, const DLTensor *tensor,
                    const moor_put_options *options, moor_put_result *result_out);
/* Gives the memory back. */
int32_t moor_abort(moor_reservation reservation);

/* A writable tensor over a reservation; its deleter ends the producer's hold. dtype, ndim and shape are read from
 * like (data, strides, device ignored). */
int32_t moor_empty_tensor(moor_store store, const DLTensor *like, DLManagedTensorVersioned **tensor_out);
/* Publishes a tensor made by moor_empty_tensor without copying: outcome MOOR_ADOPTED when tensor covers its whole
 * reservation, dense; otherwise its bytes are copied and the outcome is MOOR_STORED. ALREADY_ADOPTED the second time.
 * The tensor stays readable; writing to it afterwards ends the process. */
int32_t moor_adopt_tensor(moor_store store, const void *key, uint64_t key_size, const DLTensor *tensor,
                          const moor_put_options *options, moor_put_result *result_out);

/* ---------------------------------------------------------------------------------------------------------------
 * Getting
 */
/* mode */
#define MOOR_MODE_VIEW 0 /* the store's own read-only memory: nothing is moved */
#define MOOR_MODE_COW 1  /* a private copy-on-write window: writable, nothing is moved until it is written to; */
                         /* below 64 KiB, near vm.max_map_count and with huge pages a counted copy */
#define MOOR_MODE_COPY 2 /* memory of your own */

/* Hands out a tensor; NOT_FOUND when there is no such key, here and in all that follows. The caller owns *tensor_out
 * and ends it by its deleter, from any thread, also after moor_store_close. In mode VIEW the flag
 * DLPACK_FLAG_BITMASK_READ_ONLY is set; a write through it ends the process. Objects without a dtype come as one-
 * dimensional uint8. Strides are always given. The data of an object with bytes is aligned to 64 bytes, from 32 KiB up
 * to a page. */
int32_t moor_get_tensor(moor_store store, const void *key, uint64_t key_size, uint32_t mode,
                        DLManagedTensorVersioned **tensor_out);
/* The same in DLPack's older struct, which cannot say read-only. */
int32_t moor_get_tensor_unversioned(moor_store store, const void *key, uint64_t key_size, uint32_t mode,
                                    DLManagedTensor **tensor_out);

#define MOOR_BUFFER_READ_ONLY 1u
#define MOOR_BUFFER_TENSOR 2u /* dtype and shape are those of a tensor */
#define MOOR_BUFFER_COPIED 4u /* the bytes are a copy, not the store's */

/* Bytes handed out. release == NULL means released; the callback sets it, and calling it twice is then impossible. A
 * struct may be moved by copying it and setting the source's release to NULL. Not safe for concurrent use itself.
 * shape and meta belong to the buffer. */
typedef struct moor_buffer {
  uint32_t version; /* 1 */
  uint32_t flags;
  void (*release)(struct moor_buffer *self);
  void *private_data;
  void *data;
  uint64_t size;
  uint64_t seq;
  DLDataType dtype; /* all zero: plain bytes */
  int32_t ndim;
  const int64_t *shape;
  const void *meta;
  uint64_t meta_size;
} moor_buffer;

/* Hands out the bytes of an object, whether it is a tensor or not, with its dtype, shape and metadata. The caller ends
 * it by buffer_out->release(buffer_out). */
int32_t moor_get_buffer(moor_store store, const void *key, uint64_t key_size, uint32_t mode, moor_buffer *buffer_out);

/* Copies the bytes of an object to out. size_out receives the object's size, also when capacity is too small: then
 * MOOR_ERR_TOO_SMALL, and nothing else was written. */
int32_t moor_get(moor_store store, const void *key, uint64_t key_size, void *out, uint64_t capacity,
                 uint64_t *size_out);

typedef struct moor_span {
  void *data;
  uint64_t size;
} moor_span;

/* Copies nbytes from offset (MOOR_ALL: to the end) into the spans, filling one after the other. TOO_SMALL when the
 * spans hold less, INVALID_ARGUMENT when the range exceeds the object, READ_ONLY when a span overlaps read-only memory
 * of a store; nothing is written then. */
int32_t moor_get_into(moor_store store, const void *key, uint64_t key_size, uint64_t offset, uint64_t nbytes,
                      const moor_span *spans, uint64_t span_count, uint64_t *copied_out);

/* Removes key and hands its bytes over, exclusive and writable, without copying. BUSY while anybody else views the
 * object, or a forked child holds it. A pin does not matter. The memory returns to the store with the deleter. Writes
 * made after a fork are seen by the child too. With MOOR_DURABLE_EACH it returns when the removal is durable; IO: it cannot
 * be made so, and the object stays. */
int32_t moor_take_tensor(moor_store store, const void *key, uint64_t key_size, DLManagedTensorVersioned **tensor_out);

/* ---------------------------------------------------------------------------------------------------------------
 * Names. NOT_FOUND where the key is not there.
 */
/* The name goes at once, the bytes with the last view of them. */
int32_t moor_remove(moor_store store, const void *key, uint64_t key_size);
/* Removes every object; removed_out may be NULL. */
int32_t moor_clear(moor_store store, uint64_t *removed_out);
/* A pin protects a name from eviction, nothing else. Idempotent; it follows the name through replace. */
int32_t moor_pin(moor_store store, const void *key, uint64_t key_size);
int32_t moor_unpin(moor_store store, const void *key, uint64_t key_size);

#define MOOR_DESC_TENSOR 1u
#define MOOR_DESC_PINNED 2u
#define MOOR_DESC_ADOPTED 4u
#define MOOR_DESC_ON_DISK 8u /* memory does not have it: extent is 0 */

typedef struct moor_description {
  uint32_t struct_size;
  uint32_t flags;
  uint64_t size;  /* bytes of the object */
  uint64_t extent; /* bytes of the store's memory it occupies */
  uint64_t seq;
  uint64_t views; /* views held at this moment */
  DLDataType dtype;
  int32_t ndim;
  int64_t shape[MOOR_MAX_DIMS];
  uint64_t meta_size;
  uint8_t meta[MOOR_MAX_META];
} moor_description;

/* Set struct_size before the call; it is checked. */
int32_t moor_describe(moor_store store, const void *key, uint64_t key_size, moor_description *description_out);

/* Lists keys that start with prefix, packed one behind the other into buffer, their ends (exclusive, counted from the
 * start of buffer) into ends. Start with *cursor = 0 and go on until *cursor is MOOR_LIST_END. Each key that is there
 * throughout comes exactly once, others at most once; with a disk a key that moves between memory and disk meanwhile may
 * come twice. A call may give no key and still not be at the end. TOO_SMALL when not even the next keys fit: give a few
 * times MOOR_MAX_KEY bytes and a few ends. */
#define MOOR_LIST_END UINT64_MAX
int32_t moor_list_keys(moor_store store, const void *prefix, uint64_t prefix_size, uint64_t *cursor, void *buffer,
                       uint64_t buffer_size, uint64_t *ends, uint64_t ends_size, uint64_t *count_out);

/* What is viewed: keys packed as in moor_list_keys, and per key its views and bytes. An object whose name is gone but
 * which is still viewed has the key it had, a reservation an empty one. Complete unless it does not fit: then
 * TOO_SMALL, and count_out says how many there are, bytes_out how large buffer must be. */
typedef struct moor_borrow {
  uint64_t key_end;
  uint64_t views;
  uint64_t size;
  uint64_t seq;
  uint32_t flags; /* MOOR_BORROW_* */
  uint32_t record; /* number of the object's record: as long as it is viewed no other of the store has it */
} moor_borrow;
#define MOOR_BORROW_UNNAMED 1u  /* removed or replaced; the key is the one it had */
#define MOOR_BORROW_RESERVED 2u /* a reservation, not committed yet */
#define MOOR_BORROW_CHILD 4u    /* held for a forked child */
int32_t moor_list_borrows(moor_store store, void *buffer, uint64_t buffer_size, moor_borrow *borrows,
                          uint64_t borrows_size, uint64_t *count_out, uint64_t *bytes_out);

/* ---------------------------------------------------------------------------------------------------------------
 * Batches: one call, keys packed, a status for each key
 *
 * The return value says whether the call as a whole was understood (INVALID_ARGUMENT, BAD_HANDLE, FORKED; NO_MEMORY
 * for a batch of views that is too large); statuses_out has one status a key and is always written then. An outcome is
 * not a status: see results_out.
 */
typedef struct moor_keys {
  const void *bytes;    /* all keys, one behind the other */
  const uint64_t *ends; /* end of each key in bytes, exclusive, rising */
  uint64_t count;
} moor_keys;

int32_t moor_get_tensors(moor_store store, const moor_keys *keys, uint32_t mode,
                         DLManagedTensorVersioned **tensors_out, int32_t *statuses_out);
int32_t moor_get_buffers(moor_store store, const moor_keys *keys, uint32_t mode, moor_buffer *buffers_out,
                         int32_t *statuses_out);
/* Key i is filled from part_ends[i-1] (0 for the first) to part_ends[i] of parts. results_out may be NULL.
 *
 * With MOOR_PUT_ATOMIC in options->flags the batch is a set: its names appear at one moment, and if any of them cannot
 * be stored, none is. One call that reads many names (moor_snapshot_open, moor_wait, and the batches that get, ask or
 * count) sees all of a set or nothing of it; puts and gets of single objects do not wait for it. The error of one key
 * is then the error of the call, and statuses_out and results_out are not written. A key may come only once, else
 * INVALID_ARGUMENT. With MOOR_IF_EXISTS_KEEP names that are taken keep their objects, and the others are stored. */
int32_t moor_put_batch(moor_store store, const moor_keys *keys, const moor_part *parts, const uint64_t *part_ends,
                       const moor_put_options *options, moor_put_result *results_out, int32_t *statuses_out);
int32_t moor_put_tensors(moor_store store, const moor_keys *keys, const DLTensor *const *tensors,
                         const moor_put_options *options, moor_put_result *results_out, int32_t *statuses_out);
/* Key i fills the spans from span_ends[i-1] to span_ends[i]; offsets may be NULL (all 0) and nbytes too (all
 * MOOR_ALL). copied_out may be NULL. */
int32_t moor_get_batch_into(moor_store store, const moor_keys *keys, const uint64_t *offsets, const uint64_t *nbytes,
                            const moor_span *spans, const uint64_t *span_ends, uint64_t *copied_out,
                            int32_t *statuses_out);
int32_t moor_remove_batch(moor_store store, const moor_keys *keys, int32_t *statuses_out);
/* found_out[i] is 1 when key i is there, else 0. */
int32_t moor_exists(moor_store store, const moor_keys *keys, uint8_t *found_out);
/* How many keys are there before the first that is not. */
int32_t moor_count_leading(moor_store store, const moor_keys *keys, uint64_t *count_out);
/* How many objects have a name, and how many tensors and buffers that this ABI handed out are not released yet and
 * still hold memory of the store, with the objects of open snapshots. Cheap at any size of the store. Each pointer may
 * be NULL. */
int32_t moor_count_objects(moor_store store, uint64_t *objects_out, uint64_t *views_out);

/* Waits until there is an object under every key at one moment, for timeout_ns nanoseconds at most: 0 looks once,
 * UINT64_MAX waits for ever. TIMEOUT: not within that time; the text names the first key that is missing. CANCELLED:
 * the store was closed meanwhile. Nothing is held: what was waited for may be gone again before it is read. */
int32_t moor_wait(moor_store store, const moor_keys *keys, uint64_t timeout_ns);

/* ---------------------------------------------------------------------------------------------------------------
 * Snapshots: many objects viewed together
 *
 * A snapshot holds its objects as views do: through replace, remove, eviction and moor_store_close, until it is closed.
 * It keeps address, dtype, shape and metadata of each on its own side, so that the functions that take one never ask
 * the store. They work in forked children too, and in children of those. What they hand out are views of their own,
 * which may outlive the snapshot.
 *
 * Of a set that was put with MOOR_PUT_ATOMIC a snapshot has all or nothing. Objects that were put one by one are each
 * as they were at some time during moor_snapshot_open.
 *
 * In a snapshot an object has a number, from 0 up, by which it is asked for.
 */
typedef struct moor_snapshot {
  uint64_t id;
} moor_snapshot;

/* With keys: views the object under each of them, in their order; a key may come more than once. NOT_FOUND names one
 * that is missing, and nothing is viewed then. prefix_size is 0.
 * With keys = NULL: views the objects of all keys that start with prefix, in no particular order. That goes through all
 * names of the store, in pieces that hold nobody up for long. CANCELLED when the store is closed meanwhile. */
int32_t moor_snapshot_open(moor_store store, const moor_keys *keys, const void *prefix, uint64_t prefix_size,
                           moor_snapshot *snapshot_out);
/* Ends the handle. Calls that other threads are making with it finish first, and the last of them lets the objects go.
 * In a forked child this frees the child's own memory; the objects stay until the child ends. */
int32_t moor_snapshot_close(moor_snapshot snapshot);
/* All keys, in the order of their numbers. The memory is the snapshot's, valid until moor_snapshot_close. */
int32_t moor_snapshot_get_keys(moor_snapshot snapshot, moor_keys *keys_out);
/* The number of a key; of one that comes more than once, the first. NOT_FOUND: the snapshot has no such key. */
int32_t moor_snapshot_find(moor_snapshot snapshot, const void *key, uint64_t key_size, uint64_t *index_out);
/* As moor_get_tensor, moor_get_tensor_unversioned and moor_get_buffer, of the object with this number;
 * INVALID_ARGUMENT when there is none. In a forked child MOOR_MODE_COW needs the descriptor of the store's memory:
 * where somebody closed it, the window is a copy instead, and counted in moor_snapshot_info. */
int32_t moor_snapshot_get_tensor(moor_snapshot snapshot, uint64_t index, uint32_t mode,
                                 DLManagedTensorVersioned **tensor_out);
int32_t moor_snapshot_get_tensor_unversioned(moor_snapshot snapshot, uint64_t index, uint32_t mode,
                                             DLManagedTensor **tensor_out);
int32_t moor_snapshot_get_buffer(moor_snapshot snapshot, uint64_t index, uint32_t mode, moor_buffer *buffer_out);

#define MOOR_SNAPSHOT_FORKED 1u /* this process is a forked child of the one that opened it */

/* The counters child_... are those of the whole process, over all snapshots, in a forked child; elsewhere they are 0,
 * and moor_get_stats has what the store counts. */
typedef struct moor_snapshot_info {
  uint32_t struct_size;
  uint32_t flags;               /* MOOR_SNAPSHOT_FORKED */
  uint64_t objects;
  uint64_t bytes;               /* of all objects */
  uint64_t child_windows;       /* copy-on-write windows mapped now */
  uint64_t child_window_copies; /* cow that had to copy although the object is 64 KiB or more */
  uint64_t child_bytes_copied;  /* mode copy, and copies in place of windows */
} moor_snapshot_info;

/* Set struct_size before the call; it is checked. */
int32_t moor_snapshot_get_info(moor_snapshot snapshot, moor_snapshot_info *info_out);

/* ---------------------------------------------------------------------------------------------------------------
 * Jobs: work that nobody waits for
 *
 * moor_submit_... takes up work on many keys and returns at once: it does not wait, and copies no payload. A few threads
 * of the store do the work, key by key, of each job in turn and in no promised order. A key that is finished, or was
 * cancelled, is told of once by the job's queue; the last one carries MOOR_COMPLETION_LAST. That is the acknowledgement.
 *
 * Memory. Keys, options, shapes and the arrays themselves are copied by the call. What parts, tensors and spans lead to
 * is not: it must stay as it is (sources) or be left alone (spans) until its key is finished, and all of it is the
 * caller's again after the acknowledgement, or when moor_job_wait says so. No error, no cancel and no close of job, queue
 * or store changes that.
 *
 * Closing the store cancels all keys that were not begun; the others finish, long copies into the store with CANCELLED.
 * What a job got stays. A forked child has neither jobs nor queues; an eventfd it inherits, so it must not read it.
 */
typedef struct moor_queue {
  uint64_t id;
} moor_queue;

typedef struct moor_job {
  uint64_t id;
} moor_job;

#define MOOR_COMPLETION_LAST 1u /* of its job: nothing of the job touches the caller's memory any more */

typedef struct moor_completion {
  moor_job job;
  uint64_t tag;     /* as it was submitted with */
  uint64_t index;   /* of the key in its job; MOOR_ALL: the job has no keys */
  int32_t status;   /* of the key; moor_job_get_status has the text */
  uint32_t flags;   /* MOOR_COMPLETION_LAST */
  uint64_t value;   /* get: bytes of the object; get into: bytes copied; exists: 1 or 0; put: sequence number */
  uint32_t outcome; /* put: MOOR_STORED or MOOR_KEPT */
  uint32_t reserved;
  uint64_t wait_ns; /* from its submission until the key was begun, or cancelled */
  uint64_t run_ns;  /* from then until it was finished */
} moor_completion;

/* A queue is for any number of jobs, of any stores. */
int32_t moor_queue_open(moor_queue *queue_out);
/* Ends the queue and its descriptor. Its jobs go on, and are told of no more: ask them. */
int32_t moor_queue_close(moor_queue queue);
/* An eventfd that is readable while there is something to drain: for poll, epoll and event loops. It stays the queue's:
 * not to be closed, and no need to read it. */
int32_t moor_queue_get_fd(moor_queue queue, int32_t *fd_out);
/* Takes up to room completions out of the queue, in the order in which they came. Never waits; *count_out may be 0. */
int32_t moor_queue_drain(moor_queue queue, moor_completion *completions_out, uint64_t room, uint64_t *count_out);

/* kind */
#define MOOR_JOB_GET 1      /* views the objects: moor_job_get_tensors and moor_job_get_buffers hand them out */
#define MOOR_JOB_GET_INTO 2 /* moor_submit_get_into */
#define MOOR_JOB_PUT 3      /* moor_submit_put, moor_submit_put_tensors */
#define MOOR_JOB_PREFETCH 4 /* brings objects into memory, and does not hold them there */
#define MOOR_JOB_EXISTS 5   /* of all keys at one moment, as moor_exists */
#define MOOR_JOB_REMOVE 6
#define MOOR_JOB_PERSIST 7  /* writes objects to disk; UNSUPPORTED by a store without one */

/* Submits work that needs nothing but keys. INVALID_ARGUMENT: also more keys than a store takes at a time (65536). BUSY:
 * that many are unfinished; submit again when some are finished. The tag is the caller's and comes with each
 * completion, which may be drained before job_out is written. The caller ends the job by moor_job_close. */
int32_t moor_submit_keys(moor_store store, moor_queue queue, uint32_t kind, const moor_keys *keys, uint64_t tag,
                         moor_job *job_out);
/* As moor_get_batch_into. */
int32_t moor_submit_get_into(moor_store store, moor_queue queue, const moor_keys *keys, const uint64_t *offsets,
                             const uint64_t *nbytes, const moor_span *spans, const uint64_t *span_ends, uint64_t tag,
                             moor_job *job_out);
/* As moor_put_batch and moor_put_tensors. With MOOR_PUT_ATOMIC all keys have one status, and are finished together. */
int32_t moor_submit_put(moor_store store, moor_queue queue, const moor_keys *keys, const moor_part *parts,
                        const uint64_t *part_ends, const moor_put_options *options, uint64_t tag, moor_job *job_out);
int32_t moor_submit_put_tensors(moor_store store, moor_queue queue, const moor_keys *keys,
                                const DLTensor *const *tensors, const moor_put_options *options, uint64_t tag,
                                moor_job *job_out);

/* Ends the keys that were not begun, with CANCELLED; the others finish. Does not wait: the acknowledgement comes by queue
 * or moor_job_wait, as ever. Idempotent. */
int32_t moor_job_cancel(moor_job job);
/* Waits for the acknowledgement for timeout_ns nanoseconds at most: 0 looks, UINT64_MAX waits for ever. OK: the caller's
 * memory is his again. TIMEOUT: not yet. Takes nothing out of the queue. */
int32_t moor_job_wait(moor_job job, uint64_t timeout_ns);
/* The status of a key, MOOR_IN_PROGRESS while it has none. When it failed, moor_last_error has the text. */
int32_t moor_job_get_status(moor_job job, uint64_t index);
/* What the queue tells of count keys from first on, whether drained or not; status MOOR_IN_PROGRESS for those that are
 * not finished. */
int32_t moor_job_get_results(moor_job job, uint64_t first, uint64_t count, moor_completion *results_out);
/* Hands out what a MOOR_JOB_GET got for count keys from first on, as moor_get_tensors and moor_get_buffers do: each
 * object once. A status for each key: its own if it failed, MOOR_IN_PROGRESS, or INVALID_ARGUMENT when there is nothing
 * (any more). */
int32_t moor_job_get_tensors(moor_job job, uint64_t first, uint64_t count, uint32_t mode,
                             DLManagedTensorVersioned **tensors_out, int32_t *statuses_out);
int32_t moor_job_get_tensors_unversioned(moor_job job, uint64_t first, uint64_t count, uint32_t mode,
                                         DLManagedTensor **tensors_out, int32_t *statuses_out);
int32_t moor_job_get_buffers(moor_job job, uint64_t first, uint64_t count, uint32_t mode, moor_buffer *buffers_out,
                             int32_t *statuses_out);
/* Ends the handle, and lets go of what nobody took. Keys of a MOOR_JOB_GET that were not begun are cancelled; other jobs
 * go on. The queue still tells of the keys. */
int32_t moor_job_close(moor_job job);

/* ---------------------------------------------------------------------------------------------------------------
 * Registered memory
 *
 * A network card moves only memory that was registered with it. Memory of the store is registered by the store, when a
 * card first meets it. Memory of the caller is registered by the caller, once and for long: registering costs more than
 * copying a little. Nothing is told to anybody else by it. Without a card it is bookkeeping, and MOOR_REGISTER_LOCK.
 */
typedef struct moor_registration {
  uint64_t id;
} moor_registration;

#define MOOR_REGISTER_LOCK 1u /* lock its pages in memory, too (mlock) */

typedef struct moor_register_options {
  uint32_t struct_size;
  uint32_t flags;
} moor_register_options;

/* Registers size bytes at data, which must be mapped and stay so, untouched by madvise, until moor_registration_release
 * has returned or the store is closed. Ranges may overlap and nest; each is a registration of its own. INVALID_ARGUMENT when
 * not all of it is mapped, or it is memory of a store. NO_MEMORY when RLIMIT_MEMLOCK is too low: the text has the limit, what
 * was asked for, and what is used already. Pages that another registration with MOOR_REGISTER_LOCK covers, of any store,
 * stay locked until that ends; a lock that the program made by itself ends with the first. options may be NULL. */
int32_t moor_register_memory(moor_store store, void *data, uint64_t size, const moor_register_options *options,
                             moor_registration *registration_out);
/* Ends a registration, once its transfers have ended. TIMEOUT when some are in flight after timeout_ns nanoseconds (0 looks
 * once; a very large number waits for ever): no further one begins then, the memory must stay as it is, and the call may
 * be made again. Closing the store ends registrations, too; their handles are released all the same. */
int32_t moor_registration_release(moor_registration registration, uint64_t timeout_ns);

#define MOOR_REGISTERED_STORE 1u  /* memory of the store itself */
#define MOOR_REGISTERED_LOCKED 2u /* registered with MOOR_REGISTER_LOCK */

typedef struct moor_registration_info {
  uint32_t struct_size;
  uint32_t flags;
  moor_registration registration; /* zero for memory of the store */
  uint64_t offset;                /* of data in the registration, or in the memory of the store */
  uint64_t size;                  /* of the registration, or of the memory of the store */
  uint64_t in_flight;             /* transfers that use the registration at this moment */
} moor_registration_info;

/* Looks up where size bytes at data are registered. NOT_FOUND unless all of them lie in one registration, or in the
 * store. Set struct_size before the call; it is checked. */
int32_t moor_find_registration(moor_store store, const void *data, uint64_t size, moor_registration_info *info_out);

/* ---------------------------------------------------------------------------------------------------------------
 * Network devices (RDMA)
 *
 * They are reached through libibverbs, which is looked for by the first of these calls and by nothing else, so that who has
 * no such device pays nothing. Where there is none everything works without: that is not an error, but of
 * moor_attach_device. MOORAGE_LIBIBVERBS in the environment names another library.
 */
/* missing: the first of these that is so */
#define MOOR_MISSING_NOTHING 0     /* there is a device that can be used */
#define MOOR_MISSING_PLATFORM 1    /* only Linux on x86-64 and arm64 has it */
#define MOOR_MISSING_LIBRARY 2     /* libibverbs cannot be loaded */
#define MOOR_MISSING_KERNEL 3      /* the kernel has no verbs */
#define MOOR_MISSING_DEVICE 4      /* there is no device */
#define MOOR_MISSING_PERMISSION 5  /* no device can be opened */
#define MOOR_MISSING_ACTIVE_PORT 6 /* no port of any device has a link */

#define MOOR_LINK_UNKNOWN 0
#define MOOR_LINK_INFINIBAND 1
#define MOOR_LINK_ETHERNET 2

#define MOOR_DEVICE_NAME 64 /* bytes of a device's name, with its end */

typedef struct moor_device {
  char name[MOOR_DEVICE_NAME];
  char refusal[256];  /* why it could not be opened; empty when it could */
  uint32_t port;      /* that is used, or would be: the first with a link, else the first; 0: not known */
  uint32_t link;      /* MOOR_LINK_* of that port */
  uint32_t active;    /* 1: the port has a link, and the device can be attached */
  int32_t numa_node;  /* -1: not known */
} moor_device;

typedef struct moor_device_list {
  uint32_t struct_size;
  uint32_t missing;  /* MOOR_MISSING_* */
  uint64_t count;    /* of devices that there are */
  char text[512];    /* what is missing, and what changes it; empty when nothing is */
} moor_device_list;

/* Lists the devices of this machine, the first devices_size of them into devices. Each is opened for a moment. Set
 * list_out->struct_size before the call; it is checked. */
int32_t moor_list_devices(moor_device *devices, uint64_t devices_size, moor_device_list *list_out);

/* Opens a device for a store: what is registered from now on is registered with it, too, what was registered before when a
 * transfer first uses it, and memory of the store slab by slab, likewise (in a store with prefault, in the background). It is
 * detached with the store. name is a C string; NULL is the first device that has a link. name_out has room for
 * MOOR_DEVICE_NAME bytes, or is NULL. NO_DEVICE: there is no such device, or it cannot be used. EXISTS: the store has it. */
int32_t moor_attach_device(moor_store store, const char *name, char *name_out);
/* Takes a device away from a store and closes it, with all that is registered with it. NOT_FOUND: the store does not have it.
 * TIMEOUT when transfers are in flight after timeout_ns nanoseconds (0 looks once): no further one begins then, and the call
 * may be made again. */
int32_t moor_detach_device(moor_store store, const char *name, uint64_t timeout_ns);

/* What registering memory with a device costs beside copying it, measured with the first call for a device in a few
 * milliseconds, and what MOOR_REGISTERING_* makes of it: lines of text, of which text_out gets what fits, and an end. name as in
 * moor_attach_device. text_size is at least 1. */
int32_t moor_explain_device(const char *name, uint32_t registering, char *text_out, uint64_t text_size);

typedef struct moor_device_stats {
  char name[MOOR_DEVICE_NAME];
  uint64_t regions;       /* registered with it now */
  uint64_t bytes;         /* in them */
  uint64_t registrations; /* how often memory was registered with it */
  uint64_t register_ns;   /* nanoseconds that this, and deregistering, took */
} moor_device_stats;

/* What the devices of a store have registered: the first stats_size of them, in the order in which they were attached.
 * count_out is how many there are. */
int32_t moor_list_attached(moor_store store, moor_device_stats *stats, uint64_t stats_size, uint64_t *count_out);

/* ---------------------------------------------------------------------------------------------------------------
 * Counters and upkeep
 */
typedef struct moor_stats {
  uint32_t struct_size;
  uint32_t hugepages;        /* MOOR_HUGE_REQUIRE: those of the pool; else MOOR_HUGE_OFF */
  uint64_t capacity;         /* bytes */
  uint64_t used;             /* bytes of extents that are not free, rounding included */
  uint64_t free_warm;        /* free bytes that were touched before */
  uint64_t free_cold;        /* free bytes that cost a page fault */
  uint64_t largest_free;     /* bytes of the largest free piece */
  uint64_t resident;         /* bytes of memory behind the store: blocks of its file */
  uint64_t metadata;         /* bytes of index, records and cells */
  uint64_t objects;
  uint64_t pinned_objects;
  uint64_t pinned_bytes;
  uint64_t borrowed_objects; /* with at least one view, reservations included */
  uint64_t borrowed_bytes;
  uint64_t held_bytes;       /* kept for forked children only */
  uint64_t children;         /* forked children that live */
  uint64_t children_unfollowed; /* could not be followed: what was viewed then is kept for ever */
  uint64_t windows;          /* copy-on-write windows mapped now */
  uint64_t puts;
  uint64_t gets;             /* without a moor_get that had too little room: it only asked for the size */
  uint64_t misses;
  uint64_t removes;
  uint64_t evictions;
  uint64_t adoptions;        /* stored without a copy */
  uint64_t adopt_copies;     /* adopt that had to copy */
  uint64_t bytes_copied_in;
  uint64_t bytes_copied_out; /* get, get_into, export, mode copy, and copies in place of windows */
  uint64_t window_copies;    /* cow that had to copy although the object is 64 KiB or more */
  uint64_t protected_extents;
  uint64_t last_seq;
  uint64_t registrations;        /* of memory of the caller, now */
  uint64_t registered_bytes;     /* in them */
  uint64_t locked_bytes;         /* of those with MOOR_REGISTER_LOCK */
  uint64_t devices;              /* that memory can be registered with */
  uint64_t slab_bytes;           /* of the store, registered with some device */
  uint64_t device_registrations; /* how often memory was registered with a device */
  uint64_t register_ns;          /* nanoseconds spent in registering, deregistering and locking */
  uint32_t registering;          /* MOOR_REGISTERING_*, as the store was opened */
  uint32_t reserved;
} moor_stats;

/* ---------------------------------------------------------------------------------------------------------------
 * Disk. UNSUPPORTED for a store without one.
 */
/* Brings objects to disk, and returns when they would survive a loss of power. A status a key: OK, NOT_FOUND, IO,
 * CAPACITY. The objects stay in memory. */
int32_t moor_persist(moor_store store, const moor_keys *keys, int32_t *statuses_out);
/* The same for every object that was there when it began. */
int32_t moor_flush(moor_store store);

/* Counts since the store was opened; sizes in bytes. */
typedef struct moor_disk_stats {
  uint32_t struct_size;
  uint32_t memory_backed;    /* 1: the directory lies in memory (tmpfs ...), nothing of it is storage */
  uint64_t capacity;
  uint64_t used;             /* blocks of objects, rounding included */
  uint64_t objects;
  uint64_t resident_objects; /* of them, those that memory has as well */
  uint64_t recovered_objects; /* found again by opening */
  uint64_t lost_objects;     /* entries that opening found damaged, and left out */
  uint64_t reads;
  uint64_t bytes_read;
  uint64_t shared_reads;     /* gets that waited for a read of another */
  uint64_t writes;
  uint64_t bytes_written;
  uint64_t promotions;       /* objects that were read and stayed in memory */
  uint64_t demotions;        /* objects written because memory was needed */
  uint64_t evictions;        /* objects dropped because the disk was full */
  uint64_t damaged;          /* reads whose checksum was wrong */
  uint64_t bytes_bounced;    /* copied by the CPU between a bounce slot and where they belong */
  uint64_t by_uring_fixed;   /* operations by the way they took: io_uring with registered memory */
  uint64_t by_uring;         /* io_uring, memory not registered */
  uint64_t by_direct;        /* pread and pwrite with O_DIRECT */
  uint64_t by_buffered;      /* through the page cache */
  uint64_t fallbacks;        /* how often a slower way had to be taken */
} moor_disk_stats;

/* Set struct_size before the call; it is checked. */
int32_t moor_get_disk_stats(moor_store store, moor_disk_stats *stats_out);

/* What a directory offers to a store's disk. Found out by writing and reading a block there. */
typedef struct moor_directory_info {
  uint32_t struct_size;
  uint32_t direct;        /* 1: O_DIRECT works, so that reads are one transfer by the device */
  uint32_t memory_backed; /* 1: what is written here stays in memory; memory says why */
  uint32_t rotational;    /* as the driver says; virtual disks often say so without being it */
  uint32_t memory_align;  /* of addresses, in bytes, as the kernel says; 0: it does not say */
  uint32_t offset_align;  /* of offsets and lengths */
  uint64_t size;          /* bytes of the file system */
  uint64_t free;          /* for a user without privileges */
  char file_system[32];   /* "ext4", "xfs", "overlay" ... C strings, cut off where they are longer */
  char device[64];        /* the disk by its real name: "nvme0n1", "vda", "md0"; empty: none, or not known */
  char model[64];
  char memory[128];
  char not_direct[128];   /* why O_DIRECT does not work */
} moor_directory_info;

/* path is a C string, a directory. Set struct_size before the call. IO: nothing can be written there. */
int32_t moor_inspect_directory(const char *path, moor_directory_info *info_out);

/* Where the time of the operations went.
 * An operation has four readings of CLOCK_MONOTONIC: t0 entered, t1 first chunk handed to the kernel, t2 last completion
 * reaped, t3 result handed back. device = t2 - t1, host = (t1 - t0) + (t3 - t2), total = t3 - t0: host + device = total
 * exactly. All times are nanoseconds.
 */
#define MOOR_TIMED_GET 0       /* also the numbers of the other kinds: */
#define MOOR_TIMED_GET_INTO 1
#define MOOR_TIMED_PUT 2
#define MOOR_TIMED_PERSIST 3
#define MOOR_TIMED_FLUSH 4
#define MOOR_TIMED_PREFETCH 5
#define MOOR_TIMED_PROMOTE 6
#define MOOR_TIMED_DEMOTE 7
#define MOOR_TIMED_EVICT 8
#define MOOR_TIMED_REMOVE 9
#define MOOR_TIMED_EXISTS 10
#define MOOR_OUTCOME_OK 0
#define MOOR_OUTCOME_BACKGROUND 1 /* nobody waited for it; it went well */
#define MOOR_OUTCOME_FAILED 2     /* stamps are kept; in no distribution */
#define MOOR_OUTCOME_CANCELLED 3
#define MOOR_PATH_MEMORY 0        /* no device had a part in it */
#define MOOR_PATH_URING_FIXED 1
#define MOOR_PATH_URING 2
#define MOOR_PATH_DIRECT 3
#define MOOR_PATH_BUFFERED 4      /* through the page cache: device is the read call, or the fdatasync of a write */
#define MOOR_PATH_LAYER 5
#define MOOR_PATH_MAPPED 6        /* device is the touching of mapped pages */
#define MOOR_PATHS 8              /* room in moor_timing.paths */
#define MOOR_OPERATION_SHARED 1   /* flags: it waited for a read of another operation */

/* Count, sum, min and max are exact; a percentile is the nearest rank, off by at most 1/2048 of it. */
typedef struct moor_distribution {
  uint64_t count;
  int64_t sum;
  int64_t min;
  int64_t max;
  int64_t p50;
  int64_t p95;
  int64_t p99;
  int64_t p999;
} moor_distribution;

/* All operations of a kind and outcome (OK or BACKGROUND). Percentiles of device and host belong to different operations
 * and do not add up to that of total. */
typedef struct moor_timing {
  uint32_t kind;      /* MOOR_TIMED_* */
  uint32_t outcome;   /* MOOR_OUTCOME_OK or MOOR_OUTCOME_BACKGROUND */
  uint64_t count;     /* in the distributions */
  uint64_t failed;    /* of this kind; in its first moor_timing */
  uint64_t cancelled; /* likewise */
  uint64_t bytes;
  uint64_t shared;            /* waited for a read of another */
  uint64_t paths[MOOR_PATHS]; /* operations by MOOR_PATH_* */
  uint64_t chunks;
  int64_t chunk_sum;
  int64_t chunk_max;
  moor_distribution total;
  moor_distribution device;
  moor_distribution host;
  moor_distribution lookup; /* host's parts from here: which object, and where */
  moor_distribution queue_wait;
  moor_distribution buffer_wait;
  moor_distribution submit;
  moor_distribution complete;
  moor_distribution verify; /* after the last completion */
  moor_distribution copy;   /* through bounce slots, or from one place in memory to another */
  moor_distribution other;  /* the rest of host */
  moor_distribution verify_overlapped; /* inside device; part of nothing */
} moor_timing;

typedef struct moor_operation {
  uint64_t sequence;
  uint32_t kind;
  uint32_t outcome;
  uint32_t path;
  uint32_t durability; /* MOOR_DURABLE_*; 0: it writes nothing */
  uint32_t flags;      /* MOOR_OPERATION_* */
  uint32_t depth;      /* chunks in flight right after the first submission */
  uint32_t chunks;
  uint32_t reserved;
  uint64_t bytes;
  int64_t t0;
  int64_t t1;
  int64_t t2;
  int64_t t3;
  int64_t lookup;
  int64_t queue_wait;
  int64_t buffer_wait;
  int64_t submit;
  int64_t complete;
  int64_t verify;
  int64_t copy;
  int64_t verify_overlapped;
  int64_t chunk_min;
  int64_t chunk_max;
  int64_t chunk_sum;
} moor_operation;

typedef struct moor_timings_info {
  uint32_t struct_size; /* set before the call; it is checked */
  uint32_t reserved;
  uint64_t recorded;
  uint64_t inconsistent; /* figures that could not be true together; in no distribution */
  uint64_t trace_written;
  uint64_t trace_dropped;
  uint64_t stamp_ps;  /* what reading the clock costs, in picoseconds; measured in this process */
  uint64_t record_ps; /* what taking up an operation costs */
} moor_timings_info;

/* At most timings_size summaries are written; count_out has how many there are. info_out may be NULL. A store without a
 * disk has none. */
int32_t moor_get_timings(moor_store store, moor_timing *timings_out, uint64_t timings_size, uint64_t *count_out,
                         moor_timings_info *info_out);
/* The last operations, oldest first; at most operations_size of them, the last ones. */
int32_t moor_list_operations(moor_store store, moor_operation *operations_out, uint64_t operations_size,
                             uint64_t *count_out);

/* Set struct_size before the call; it is checked. */
int32_t moor_get_stats(moor_store store, moor_stats *stats_out);
/* Gives free pages back to the system. freed_out may be NULL. */
int32_t moor_trim(moor_store store, uint64_t *freed_out);

/* ---------------------------------------------------------------------------------------------------------------
 * safetensors files: straight between file and store
 */
/* Called from the calling thread now and then, with bytes done and bytes in all; anything but 0 stops. */
typedef int32_t (*moor_progress)(void *context, uint64_t done, uint64_t total);

typedef struct moor_file_options {
  uint32_t struct_size;
  uint32_t if_exists;
  moor_progress progress;
  void *context;
} moor_file_options;

/* Stores every tensor of the file under prefix + its name; the tensors appear when all are read. IO, FORMAT, CAPACITY,
 * EXISTS, CANCELLED: nothing was stored. path is a C string. count_out may be NULL. */
int32_t moor_import_safetensors(moor_store store, const char *path, const void *prefix, uint64_t prefix_size,
                                const moor_file_options *options, uint64_t *count_out);
/* Writes the objects into a new file, which appears complete or not at all; prefix_size bytes are cut off every key.
 * NOT_FOUND names the key. */
int32_t moor_export_safetensors(moor_store store, const char *path, const moor_keys *keys, uint64_t prefix_size,
                                const moor_file_options *options);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* MOORAGE_H_ */
