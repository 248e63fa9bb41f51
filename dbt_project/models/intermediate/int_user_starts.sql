with ratings as (

    select * from {{ ref('fct_ratings') }}
    where edition != 'streaming'

),

-- Whoever came within the last days of a source has had no time to stay, so nobody can say whether he did.
sources as (

    select
        edition,
        max(rated_at) as ends_at
    from ratings
    group by edition

),

users as (

    select
        user_key,
        arg_min(edition, rated_at) as edition,
        min(rated_at) as first_rated_at,
        max(rated_at) as last_rated_at
    from ratings
    group by user_key

),

final as (

    select
        users.user_key,
        users.edition,
        users.first_rated_at,
        users.last_rated_at,
        case
            when users.last_rated_at >= users.first_rated_at + to_days({{ staying_days() }}) then true
            when users.first_rated_at + to_days({{ staying_days() }}) <= sources.ends_at then false
        end as has_stayed
    from users
    inner join sources on users.edition = sources.edition

)

select * from final
