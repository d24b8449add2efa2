// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis"
	remote "k8s.io/cri-client/pkg"
	"k8s.io/klog/v2"
)

// How many pods are ended at a time: each runs CNI plugins and unmounts, which two cores share.
const stoppers = 8

// runStopPods ends and removes every pod through the container runtime's own interface, so that
// the CNI plugins take back their addresses, interfaces and iptables rules. The kubelet must be
// gone, or it starts the pods again.
func runStopPods() {
	endpoint := flag.String("endpoint", "", "address of the container runtime, unix:///path")
	grace := flag.Int64("grace", 1, "seconds a container has between SIGTERM and SIGKILL")
	timeout := flag.Duration("timeout", 60*time.Second, "time for all pods together")
	flag.Parse()
	klog.LogToStderr(false)

	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	logger := klog.Background()
	runtime, err := remote.NewRemoteRuntimeService(*endpoint, *timeout, nil, &logger)
	if err != nil {
		fail(fmt.Errorf("no container runtime at %s: %w", *endpoint, err))
	}
	stopped, err := stopPods(ctx, runtime, *grace)
	fmt.Printf("%d pods ended\n", stopped)
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func stopPods(ctx context.Context, runtime runtimeapi.RuntimeService, grace int64) (int, error) {
	pods, err := runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return 0, err
	}
	containers, err := runtime.ListContainers(ctx, nil)
	if err != nil {
		return 0, err
	}
	members := map[string][]string{}
	for _, container := range containers {
		members[container.PodSandboxId] = append(members[container.PodSandboxId], container.Id)
	}

	var group sync.WaitGroup
	slots := make(chan struct{}, stoppers)
	errs := make([]error, len(pods))
	for i, pod := range pods {
		group.Add(1)
		go func() {
			defer group.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = stopPod(ctx, runtime, pod.Id, members[pod.Id], grace)
		}()
	}
	group.Wait()
	stopped := 0
	var first error
	for _, err := range errs {
		if err == nil {
			stopped++
		} else if first == nil {
			first = err
		}
	}
	return stopped, first
}

func stopPod(
	ctx context.Context, runtime runtimeapi.RuntimeService, pod string, containers []string, grace int64,
) error {
	var group sync.WaitGroup
	for _, container := range containers {
		group.Add(1)
		go func() {
			defer group.Done()
			// A container that will not stop is stopped with its pod, without grace.
			_ = runtime.StopContainer(ctx, container, grace)
		}()
	}
	group.Wait()
	if err := runtime.StopPodSandbox(ctx, pod); err != nil {
		return fmt.Errorf("pod %s: %w", pod, err)
	}
	if err := runtime.RemovePodSandbox(ctx, pod); err != nil {
		return fmt.Errorf("pod %s: %w", pod, err)
	}
	return nil
}
