package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/queue"
)

func (a *app) deleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete",
		GroupID: groupQueues,
		Short:   "Delete one queue, exchange or binding",
	}
	return group(cmd, a.deleteQueueCommand(), a.deleteExchangeCommand(), a.deleteBindingCommand())
}

func (a *app) deleteQueueCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "queue NAME",
		Short: "Delete a queue with its bindings",
		Example: `  lockkeeper delete queue mail
  lockkeeper delete queue mail --force     # with the messages in it`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.delete(cmd.Context(), &queue.DeleteRequest{Queue: args[0], IfEmpty: !force}, "queue "+args[0])
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also if it has messages, which are lost")
	return cmd
}

func (a *app) deleteExchangeCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "exchange NAME",
		Short:   "Delete an exchange",
		Example: "  lockkeeper delete exchange shop",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.delete(cmd.Context(), &queue.DeleteRequest{Exchange: args[0], IfUnused: !force}, "exchange "+args[0])
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also if there are bindings from it")
	return cmd
}

func (a *app) deleteBindingCommand() *cobra.Command {
	var args map[string]string
	var toExchange bool
	cmd := &cobra.Command{
		Use:     "binding EXCHANGE QUEUE [KEY]",
		Short:   "Delete a binding",
		Example: "  lockkeeper delete binding shop payments 'order.*'",
		Args:    arguments(2, 3),
		RunE: func(cmd *cobra.Command, names []string) error {
			b := newBinding(names, args, toExchange)
			return a.delete(cmd.Context(), &queue.DeleteRequest{Binding: &b}, fmt.Sprintf("binding %s -> %s", names[0], names[1]))
		},
	}
	cmd.Flags().StringToStringVar(&args, "arg", nil, "`k=v` as it was declared; repeatable")
	cmd.Flags().BoolVar(&toExchange, "to-exchange", false, "the second name is that of an exchange")
	return cmd
}

func (a *app) delete(ctx context.Context, r *queue.DeleteRequest, what string) error {
	return a.withQueues(ctx, func(ctx context.Context, queues *queue.Broker) error {
		if err := queues.Delete(ctx, r); err != nil {
			return err
		}
		if a.json {
			return a.printJSON(map[string]string{"deleted": what})
		}
		_, err := fmt.Fprintln(a.Out, "deleted", what)
		return err
	})
}
