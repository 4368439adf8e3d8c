// Independent jobs on a few threads: how batches of streams are coded, and the layers of one image.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "fastlic/memory.hpp"

namespace fastlic {

// Threads for `jobs` jobs: `requested`, or every core if that is 0; never more than jobs, nor than 64 or the cores.
inline unsigned thread_count(unsigned requested, std::size_t jobs) {
  constexpr unsigned kMost = 64;
  static const unsigned cores = std::thread::hardware_concurrency();
  const std::size_t threads = std::min(requested != 0 ? requested : cores, std::max(kMost, cores));
  return static_cast<unsigned>(std::max<std::size_t>(1, std::min(threads, jobs)));
}

// Starts up to `count` threads that run `work`, with memory from where this thread takes it. Where no more are to be
// had, those that started do with it.
template <typename Work>
Vector<std::thread> start_threads(unsigned count, const Work& work) {
  Vector<std::thread> threads;
  threads.reserve(count);
  try {
    for (unsigned t = 0; t < count; ++t) {
      threads.emplace_back([work, from = MemoryFrom::current()] {
        const MemoryFrom memory(from);
        work();
      });
    }
  } catch (const std::system_error&) {
  } catch (const std::bad_alloc&) {
  }
  return threads;
}

// Jobs 0..count-1, each taken once by whoever calls work().
template <typename Job>
class JobQueue {
 public:
  JobQueue(std::size_t count, const Job& job) : count_(count), job_(job), failed_(count) {}

  void work() {
    for (std::size_t i = next_++; i < count_; i = next_++) {
      try {
        job_(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (i < failed_) {
          failed_ = i;
          failure_ = std::current_exception();
        }
        next_ = count_;
        return;  // jobs below i have all been taken by now, so the lowest failure is still found
      }
    }
  }
  // The exception of the lowest failing job, so that the error does not depend on timing.
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::size_t count_;
  const Job& job_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr failure_;
  std::size_t failed_;
};

// Calls job(i) for i in 0..jobs-1, each once, in any order. The exception of the lowest failing job is rethrown; later
// jobs may or may not have run then.
template <typename Job>
void parallel_for(std::size_t jobs, unsigned requested, const Job& job) {
  const unsigned threads = thread_count(requested, jobs);
  JobQueue<Job> queue(jobs, job);
  Vector<std::thread> helpers = start_threads(threads - 1, [&queue] { queue.work(); });
  queue.work();
  for (std::thread& helper : helpers) helper.join();
  queue.rethrow();
}

// Threads that stay for many short rounds of jobs, such as the layers of a network: they keep their scratch memory, and
// waking one costs less than starting it. One round at a time.
class Team {
 public:
  explicit Team(unsigned requested)
      : helpers_(start_threads(thread_count(requested, static_cast<std::size_t>(-1)) - 1, [this] { serve(); })) {}
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    begin_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
  }

  // Threads at work in a round, at most.
  std::size_t size() const noexcept { return helpers_.size() + 1; }

  // As parallel_for.
  template <typename Job>
  void run(std::size_t jobs, const Job& job) {
    JobQueue<Job> queue(jobs, job);
    if (helpers_.empty() || jobs < 2) {
      queue.work();
      return queue.rethrow();
    }
    const std::function<void()> work = [&queue] { queue.work(); };
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      ++round_;
    }
    begin_.notify_all();
    queue.work();
    std::unique_lock<std::mutex> lock(mutex_);
    work_ = nullptr;  // whoever wakes up now has come too late
    end_.wait(lock, [this] { return busy_ == 0; });
    lock.unlock();
    queue.rethrow();
  }

 private:
  void serve() {
    std::size_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      begin_.wait(lock, [&] { return stop_ || (work_ != nullptr && round_ != seen); });
      if (stop_) return;
      seen = round_;
      ++busy_;
      const std::function<void()>* work = work_;
      lock.unlock();
      (*work)();
      lock.lock();
      if (--busy_ == 0) end_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable begin_, end_;
  const std::function<void()>* work_ = nullptr;
  std::size_t round_ = 0;
  unsigned busy_ = 0;
  bool stop_ = false;
  Vector<std::thread> helpers_;
};

template <typename Job>
void parallel_for(std::size_t jobs, Team& team, const Job& job) {
  team.run(jobs, job);
}

}  // namespace fastlic
