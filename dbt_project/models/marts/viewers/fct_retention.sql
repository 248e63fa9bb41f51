with ratings as (

    select * from {{ ref('fct_ratings') }}

),

months as (

    select distinct
        user_key,
        cast(date_trunc('month', rated_at) as date) as month
    from ratings

),

-- Who is of the edition and rates in the app later has come back, and is no newcomer there.
firsts as (

    select
        user_key,
        arg_min(edition, rated_at) as edition,
        cast(date_trunc('month', min(rated_at)) as date) as cohort_month
    from ratings
    group by user_key

),

cohorts as (

    select
        firsts.edition,
        firsts.cohort_month,
        date_diff('month', firsts.cohort_month, months.month) as months_since,
        count(*) as active_users
    from months
    inner join firsts on months.user_key = firsts.user_key
    group by firsts.edition, firsts.cohort_month, months_since

),

final as (

    select
        edition,
        cohort_month,
        cast(months_since as integer) as months_since,
        cast(first_value(active_users) over cohort as integer) as cohort_users,
        cast(active_users as integer) as active_users,
        round(active_users / first_value(active_users) over cohort, 6) as retention
    from cohorts
    window cohort as (partition by edition, cohort_month order by months_since) -- noqa: PRS

)

select * from final
