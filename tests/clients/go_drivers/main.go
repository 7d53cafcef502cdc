// What a Go program does with a database, through pgx in each of its ways to run a query, and through lib/pq.
// Prints one line per step: "ok NAME", or "NAME: what went wrong". Arguments: port, file of the certificate authority.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"
)

const masked = "select id, name, ssn from customers where id = $1"

var ctx = context.Background()

func step(name string, run func() error) {
	if err := run(); err != nil {
		fmt.Printf("%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Println("ok", name)
}

func expect(holds bool, otherwise string) error {
	if !holds {
		return errors.New(otherwise)
	}
	return nil
}

func readMasked(scan func(id int) (string, *string, error)) error {
	for id := 1; id < 8; id++ {
		name, ssn, err := scan(id)
		if err != nil {
			return err
		}
		if name != fmt.Sprintf("Customer %d", id) {
			return errors.New("another row: " + name)
		}
		if ssn != nil && strings.Contains(*ssn, "-12-") {
			return errors.New("a planted value")
		}
	}
	return nil
}

func withPgx(mode, dsn string) {
	connection, err := pgx.Connect(ctx, dsn+" default_query_exec_mode="+mode)
	if err != nil {
		fmt.Printf("connect %s: %s\n", mode, err)
		return
	}
	defer connection.Close(ctx)
	step("masked select "+mode, func() error {
		return readMasked(func(id int) (name string, ssn *string, err error) {
			err = connection.QueryRow(ctx, masked, id).Scan(&id, &name, &ssn)
			return
		})
	})
	step("batch "+mode, func() error {
		batch := &pgx.Batch{}
		for row := 0; row < 5; row++ {
			batch.Queue("select name from customers where id = $1", row+1)
			batch.Queue("insert into orders (customer, amount) values ($1, $2)", 1, 2)
		}
		results := connection.SendBatch(ctx, batch)
		defer results.Close()
		for row := 0; row < 5; row++ {
			var name string
			if err := results.QueryRow().Scan(&name); err != nil {
				return err
			}
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		return nil
	})
	step("savepoint "+mode, func() error {
		outer, err := connection.Begin(ctx)
		if err != nil {
			return err
		}
		inner, err := outer.Begin(ctx)
		if err != nil {
			return err
		}
		_, err = inner.Exec(ctx, "select 1 / 0")
		var failure *pgconn.PgError
		if !errors.As(err, &failure) || failure.Code != "22012" {
			return fmt.Errorf("not the server's error: %w", err)
		}
		if err := inner.Rollback(ctx); err != nil {
			return err
		}
		if _, err := outer.Exec(ctx, "update orders set amount = $1 where id = $2", 3, 1); err != nil {
			return err
		}
		return outer.Commit(ctx)
	})
	step("array "+mode, func() error {
		var count int
		err := connection.QueryRow(ctx, "select count(*) from customers where id = any($1)", []int32{1, 2, 3}).Scan(&count)
		return errors.Join(err, expect(count == 3, "another count"))
	})
	step("copy "+mode, func() error {
		rows := pgx.CopyFromRows([][]any{{int32(1), "one"}, {int32(2), "two"}})
		count, err := connection.CopyFrom(ctx, pgx.Identifier{"events"}, []string{"id", "note"}, rows)
		return errors.Join(err, expect(count == 2, "another count"))
	})
	step("cancel "+mode, func() error {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := connection.Exec(short, "select count(*) from generate_series(1, 2000000000)")
		return expect(err != nil, "it ran to its end")
	})
}

func withPool(dsn string) error {
	pool, err := pgxpool.New(ctx, dsn+" pool_max_conns=4")
	if err != nil {
		return err
	}
	defer pool.Close()
	failures := make(chan error)
	for row := range 40 {
		go func() {
			var name string
			failures <- pool.QueryRow(ctx, "select name from customers where id = $1", row+1).Scan(&name)
		}()
	}
	for range 40 {
		err = errors.Join(err, <-failures)
	}
	return err
}

func withPq(dsn string) {
	for _, options := range []string{"", " binary_parameters=yes"} {
		database, err := sql.Open("postgres", dsn+options)
		if err != nil {
			fmt.Printf("lib/pq%s: %s\n", options, err)
			return
		}
		defer database.Close()
		step("lib/pq masked select"+options, func() error {
			statement, err := database.Prepare(masked)
			if err != nil {
				return err
			}
			defer statement.Close()
			return readMasked(func(id int) (name string, ssn *string, err error) {
				err = statement.QueryRow(id).Scan(&id, &name, &ssn)
				return
			})
		})
		step("lib/pq read only"+options, func() error {
			transaction, err := database.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
			if err != nil {
				return err
			}
			var count int
			err = transaction.QueryRow("select count(*) from customers").Scan(&count)
			return errors.Join(err, transaction.Commit(), expect(count == 100, "another count"))
		})
	}
	database, err := sql.Open("postgres", dsn)
	if err != nil {
		fmt.Println("lib/pq:", err)
		return
	}
	defer database.Close()
	step("lib/pq copy", func() error {
		transaction, err := database.Begin()
		if err != nil {
			return err
		}
		statement, err := transaction.Prepare(pq.CopyIn("events", "id", "note"))
		if err != nil {
			return err
		}
		for row := range 3 {
			if _, err := statement.Exec(row, "pq"); err != nil {
				return err
			}
		}
		_, err = statement.Exec()
		return errors.Join(err, statement.Close(), transaction.Commit())
	})
	step("refused drop", func() error {
		_, err := database.Exec("drop table orders")
		return err
	})
}

func main() {
	dsn := fmt.Sprintf("host=localhost port=%s dbname=shop user=agent sslmode=verify-full sslrootcert=%s", os.Args[1], os.Args[2])
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		withPgx(mode, dsn)
	}
	step("pool", func() error { return withPool(dsn) })
	withPq(dsn)
}
