// How far a call is, for whoever watches the thread that makes it.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

namespace fastlic {

// While one lives, what its thread does is told: shares of the whole that never fall, a few a second. What `tell`
// throws ends the call. Work is counted where a thread starts others and waits for them, so nobody shares a counter;
// where nobody watches it costs a look at a pointer per band of rows.
class Progress {
 public:
  // `tell`: from 0 to 1; empty: nobody watches. `pause`: between two calls of it.
  explicit Progress(std::function<void(double)> tell, std::chrono::milliseconds pause = std::chrono::milliseconds(50))
      : tell_(std::move(tell)), pause_(pause), outer_(watcher()) {
    watcher() = tell_ ? this : nullptr;
  }
  ~Progress() { watcher() = outer_; }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  static bool watched() noexcept { return watcher() != nullptr; }
  // What a call is going to do, before it begins, in any unit; whatever nobody expected is not counted.
  static void expect(double work) noexcept {
    if (watched()) watcher()->all_ += work;
  }
  static void done(double work) {
    if (watched()) watcher()->add(work);
  }

 private:
  using Clock = std::chrono::steady_clock;

  // A function's own: with a member, every file that includes this would need the thread's storage initialised.
  static Progress*& watcher() noexcept {
    thread_local Progress* own = nullptr;
    return own;
  }

  void add(double work) {
    done_ += work;
    const Clock::time_point now = Clock::now();
    if (all_ <= 0 || now - told_ < pause_) return;
    told_ = now;
    tell_(std::min(done_ / all_, 1.0));
  }

  std::function<void(double)> tell_;
  std::chrono::milliseconds pause_;
  Progress* outer_;
  double all_ = 0, done_ = 0;
  Clock::time_point told_ = Clock::now();
};

}  // namespace fastlic
