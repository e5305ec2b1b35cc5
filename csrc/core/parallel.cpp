#include "core/parallel.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace pyfast {
namespace {

// One loop being worked on. Workers take items until none is left.
struct Loop {
  int64_t n = 0;
  const std::function<void(int64_t, int)>* body = nullptr;
  std::atomic<int64_t> next{0};
  std::mutex error_lock;
  std::exception_ptr error;

  void work(int worker) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) {
      try {
        (*body)(i, worker);
      } catch (...) {
        std::lock_guard<std::mutex> hold(error_lock);
        if (!error) error = std::current_exception();
        next.store(n, std::memory_order_relaxed);
      }
    }
  }
};

// Waits a little while before the caller goes to sleep: an op is a row of short loops, and waking a thread takes longer
// than many of them. Yields, so that a machine with more threads than cores loses nothing.
template <class Done>
bool spin_until(Done done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(100);
  while (std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
#if defined(PYFAST_X86)
      __builtin_ia32_pause();
#endif
    }
    std::this_thread::yield();
  }
  return done();
}

class Pool {
 public:
  // Runs the loop on the caller and up to threads-1 workers; false when another loop holds the pool.
  bool run(Loop& loop, int threads) {
    if (busy_.test_and_set(std::memory_order_acquire)) return false;
    const Release at_end{busy_};
    grow(threads - 1);
    {
      std::lock_guard<std::mutex> hold(lock_);
      loop_ = &loop;
      wanted_ = threads - 1;
      ++generation_;
    }
    wake_.notify_all();
    loop.work(0);
    {
      std::lock_guard<std::mutex> hold(lock_);
      wanted_ = 0;  // late workers find nothing to join
    }
    if (!spin_until([&] { return active_ == 0; })) {
      std::unique_lock<std::mutex> hold(lock_);
      done_.wait(hold, [&] { return active_ == 0; });
    }
    return true;
  }

 private:
  struct Release {
    std::atomic_flag& flag;
    ~Release() { flag.clear(std::memory_order_release); }
  };

  void grow(int count) {
    while (static_cast<int>(workers_.size()) < count) {
      const int id = static_cast<int>(workers_.size()) + 1;
      workers_.emplace_back([this, id] { serve(id); });
      workers_.back().detach();  // the pool lives as long as the process
    }
  }

  void serve(int id) {
    uint64_t seen = 0;
    for (;;) {
      spin_until([&] { return generation_ != seen; });
      std::unique_lock<std::mutex> hold(lock_);
      wake_.wait(hold, [&] { return generation_ != seen; });
      seen = generation_;
      if (id > wanted_) continue;
      Loop* loop = loop_;
      ++active_;
      hold.unlock();
      loop->work(id);
      hold.lock();
      if (--active_ == 0) done_.notify_all();
    }
  }

  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;  // no mutex: a nested loop asks on the thread that holds it
  std::mutex lock_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  Loop* loop_ = nullptr;  // guarded by lock_, as is wanted_
  int wanted_ = 0;
  std::atomic<int> active_{0};           // written under lock_, watched without it
  std::atomic<uint64_t> generation_{0};  // likewise
};

// Threads do not survive fork(): a child starts with a fresh pool and leaks the parent's, whose locks may be held.
Pool*& pool_slot() {
  static Pool* pool = [] {
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, [] { pool_slot() = new Pool; });
#endif
    return new Pool;
  }();
  return pool;
}

}  // namespace

void parallel_for(int64_t n, int threads, const std::function<void(int64_t, int)>& body) {
  if (n <= 0) return;
  Loop loop;
  loop.n = n;
  loop.body = &body;
  if (threads > n) threads = static_cast<int>(n);
  if (threads <= 1 || !pool_slot()->run(loop, threads)) loop.work(0);
  if (loop.error) std::rethrow_exception(loop.error);
}

}  // namespace pyfast
