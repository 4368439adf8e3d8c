// Independent jobs on a few threads: how batches of streams are coded.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace fastlic {

// Threads for `jobs` jobs: `requested`, or every core if that is 0; never more than jobs.
inline unsigned thread_count(unsigned requested, std::size_t jobs) {
  unsigned threads = requested != 0 ? requested : std::thread::hardware_concurrency();
  if (threads > jobs) threads = static_cast<unsigned>(jobs);
  return threads == 0 ? 1 : threads;
}

// Calls job(i) for i in 0..jobs-1, each once, in any order. The exception of the lowest failing job is rethrown, so the
// error does not depend on timing; later jobs may or may not have run then.
template <typename Job>
void parallel_for(std::size_t jobs, unsigned requested, const Job& job) {
  const unsigned threads = thread_count(requested, jobs);
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  std::size_t failed = jobs;
  const auto work = [&] {
    for (std::size_t i = next++; i < jobs; i = next++) {
      try {
        job(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (i < failed) {
          failed = i;
          failure = std::current_exception();
        }
        return;  // jobs below i have all been taken by now, so the lowest failure is still found
      }
    }
  };
  std::vector<std::thread> helpers;
  helpers.reserve(threads - 1);
  try {
    for (unsigned t = 1; t < threads; ++t) helpers.emplace_back(work);
  } catch (const std::system_error&) {
    // No more threads to be had: those that started, and this one, do the work.
  }
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fastlic
